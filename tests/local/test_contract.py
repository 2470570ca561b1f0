"""The local provider passes the suites of a provider that runs programs."""

from __future__ import annotations

from hodei_core.backends.local import LocalProvider
from hodei_core.ports import WorkerProvider
from hodei_core.testing import ProviderContract, ProviderSuite, SessionContract


class Local(ProviderSuite):
    async def make_provider(self) -> WorkerProvider:
        return LocalProvider(slots=3)


class TestProvider(Local, ProviderContract):
    pass


class TestSession(Local, SessionContract):
    pass
