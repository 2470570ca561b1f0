"""What takes long to read keeps nobody else waiting."""

from __future__ import annotations

from pathlib import Path

import anyio

from hodei_core import Hodei
from hodei_core.backends.sqlite import SqliteStore

LIMIT = 60.0
ENDLESS = "with recursive c (n) as (select 1 union all select n + 1 from c) select n from c limit ?"


async def test_a_job_runs_while_somebody_lists_for_long(tmp_path: Path) -> None:
    store = SqliteStore(tmp_path / "jobs.db")
    with anyio.fail_after(LIMIT):
        async with Hodei(store) as hodei:
            listed = False

            async def list_for_long() -> None:
                nonlocal listed
                await store._list(f"select count(*) from ({ENDLESS})", (2_000_000,))
                listed = True

            async with anyio.create_task_group() as tasks:
                tasks.start_soon(list_for_long)
                assert (await hodei.run("true")).ok
                assert not listed
