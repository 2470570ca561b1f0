"""Jobs as processes of this machine, under a guard that lets none outlive its host."""

from hodei_core.backends.local.provider import LocalProvider

__all__ = ["LocalProvider"]
