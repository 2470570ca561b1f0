from __future__ import annotations

from pathlib import Path

import pytest

from tests.planted.bugs import BUGS, Bug

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("bug", [pytest.param(bug, id=bug.name) for bug in BUGS])
def test_a_bug_can_be_planted(bug: Bug) -> None:
    text = (ROOT / "src" / "hodei_core" / bug.file).read_text()
    assert text.count(bug.before) == 1
    compile(text.replace(bug.before, bug.after), bug.file, "exec")
    for test in bug.tests:
        assert (ROOT / test).exists()
