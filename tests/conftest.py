from __future__ import annotations

import pytest


@pytest.fixture(
    scope="module", params=[pytest.param("asyncio", id="asyncio"), pytest.param("trio", id="trio")]
)
def anyio_backend(request: pytest.FixtureRequest) -> str:
    """Run each async test on both event loops.

    A test of asyncio alone says `@pytest.mark.parametrize("anyio_backend", ["asyncio"])`.
    """
    backend: str = request.param
    return backend
