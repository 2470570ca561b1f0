"""The SQL of the SQLite store answers as the model does, through whole histories of faults."""

from __future__ import annotations

import pytest

from tests.simulation.run import run


@pytest.mark.parametrize("seed", range(2_000, 2_006))
def test_sqlite_answers_as_the_model_does(seed: int) -> None:
    outcome = run(seed, shadow=True)
    assert outcome.problem is None, "\n".join(outcome.last)


def test_the_shadow_changes_nothing_of_a_history() -> None:
    assert run(2_000, shadow=True).digest == run(2_000).digest
