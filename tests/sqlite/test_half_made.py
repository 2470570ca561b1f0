"""A file whose maker was killed in the midst of it is made anew, or as it was before."""

from __future__ import annotations

import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

from hodei_core.backends.sqlite import schema
from tests.sqlite.helpers import make, opened


def cut_off(maker: sqlite3.Connection, path: Path, copy: Path) -> None:
    """Copy a file as it is within a transaction, as a kill leaves it: with its journal."""
    for suffix in ("", "-journal"):
        shutil.copyfile(f"{path}{suffix}", f"{copy}{suffix}")
    assert Path(f"{copy}-journal").stat().st_size
    maker.rollback()


async def test_a_file_whose_making_was_cut_off_is_made_anew(tmp_path: Path) -> None:
    half = tmp_path / "half.db"
    with closing(sqlite3.connect(tmp_path / "whole.db", isolation_level=None)) as maker:
        maker.execute("pragma cache_size = 1")  # so that pages go to the file before the commit
        maker.execute("begin immediate")
        for statement in schema.statements(schema.STEPS[0]):
            maker.execute(statement)
        cut_off(maker, tmp_path / "whole.db", half)
    await make(half)
    async with opened(half) as driver:
        assert await driver.get("one") is not None


async def test_a_file_that_was_cut_off_in_a_transaction_is_as_before_it(tmp_path: Path) -> None:
    half = tmp_path / "half.db"
    await make(tmp_path / "whole.db")
    with closing(sqlite3.connect(tmp_path / "whole.db", isolation_level=None)) as maker:
        maker.execute("pragma journal_mode = delete")
        maker.execute("pragma cache_size = 1")
        maker.execute("begin immediate")
        maker.execute("delete from jobs")
        maker.execute("create table junk as select hex(randomblob(20000)) as text")
        cut_off(maker, tmp_path / "whole.db", half)
    async with opened(half) as driver:
        assert await driver.get("one") is not None
        assert await driver.get("two") is not None
