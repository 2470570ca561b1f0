"""Aids for tests: a clock that is set by hand, and the suites that backends must pass."""

from hodei_core.testing.clock import FakeClock

__all__ = ["FakeClock"]
