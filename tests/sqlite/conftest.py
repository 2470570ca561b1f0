from __future__ import annotations

import pytest


@pytest.fixture(scope="module", params=["asyncio"])
def anyio_backend(request: pytest.FixtureRequest) -> str:
    """The driver runs on asyncio alone."""
    return str(request.param)
