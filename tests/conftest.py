from __future__ import annotations

import os

import pytest


def pytest_xdist_auto_num_workers() -> int:
    """Return how many processes `-n auto` takes: most tests wait, so more than there are CPUs."""
    return 2 * (os.cpu_count() or 1)


@pytest.fixture(
    scope="module", params=[pytest.param("asyncio", id="asyncio"), pytest.param("trio", id="trio")]
)
def anyio_backend(request: pytest.FixtureRequest) -> str:
    """Run each async test on both event loops.

    A test of asyncio alone says `@pytest.mark.parametrize("anyio_backend", ["asyncio"])`.
    """
    backend: str = request.param
    return backend
