"""The statement that lists jobs by a filter, the last submitted first."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from hodei_core.backends.sqlite import rows
from hodei_core.ports import JobFilter
from hodei_core.states import JobState

_LAST = "\U0010ffff"  # above every character of an id
_FIRST_OF = "select * from (select j.seq from jobs j where {where} order by j.seq desc limit ?)"


def page(matching: JobFilter, before: int | None, most: int) -> tuple[str, list[Any]]:
    """Return a statement for the last `most` jobs that match, and its arguments.

    `before`: only jobs with a smaller `seq`.
    """
    groups = _groups(matching)
    if len(groups) < 2:
        where, arguments = _conditions(matching, before)
    else:
        # Several states are no range of an index: the last of each are, and among them are all.
        parts = [_conditions(JobFilter(states=frozenset(group)), before) for group in groups]
        seqs = " union all ".join(_FIRST_OF.format(where=where) for where, _ in parts)
        where = f"j.seq in ({seqs})"
        arguments = [argument for _, given in parts for argument in (*given, most)]
    return f"{rows.JOBS} where {where} order by j.seq desc limit ?", [*arguments, most]


def _groups(matching: JobFilter) -> Sequence[Sequence[JobState]]:
    """Return the states of a filter in groups, each of which an index has in order.

    None where something else narrows it down.
    """
    narrowed = matching.name is not None or matching.id_prefix or matching.labels
    if matching.states is None or narrowed:
        return ()
    states = sorted(matching.states, key=lambda state: state.value)
    live = [state for state in states if not state.is_final]
    final = [[state] for state in states if state.is_final]
    return [*final, live] if live else final


def _conditions(matching: JobFilter, before: int | None) -> tuple[str, list[Any]]:
    conditions = ["true"]
    arguments: list[Any] = []
    if matching.states is not None:
        states = sorted(state.value for state in matching.states)
        conditions.append(f"j.state in ({', '.join('?' * len(states))})")
        arguments += states
        # What the states say already, once more for the indexes of live and of final jobs.
        if states and all(not state.is_final for state in matching.states):
            conditions.append("j.finished_at is null")
        elif len(states) == 1:
            conditions.append("j.finished_at is not null")
    if matching.name is not None:
        conditions.append("j.name = ?")
        arguments.append(rows.text(matching.name))
    if matching.id_prefix:
        # Two bounds, which the index of ids answers; "like" would neither use it nor be exact.
        conditions += ["j.id >= ?", "j.id < ?"]
        arguments += [rows.text(matching.id_prefix), rows.text(matching.id_prefix + _LAST)]
    for name, value in matching.labels.items():
        conditions.append("j.seq in (select seq from labels where name = ? and value = ?)")
        arguments += [rows.text(name), rows.text(value)]
    if before is not None:
        conditions.append("j.seq < ?")
        arguments.append(before)
    return " and ".join(conditions), arguments
