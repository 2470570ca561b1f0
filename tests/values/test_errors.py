from __future__ import annotations

import builtins
import inspect
import re
from typing import Any

import pytest

from hodei_core import errors
from hodei_core.errors import HodeiError, InvalidJobError, JobFailedError, shown
from hodei_core.results import JobResult, make_result
from hodei_core.states import JobState
from tests.values.helpers import job_in, pickled

CLASSES: dict[str, Any] = {
    name: cls
    for name, cls in vars(errors).items()
    if inspect.isclass(cls) and cls.__module__ == errors.__name__
}

CONTRACT = {
    "InvalidJobError": ValueError,
    "KeyConflictError": ValueError,
    "OutputTooLargeError": ValueError,
    "JobNotFoundError": LookupError,
    "OutputLostError": LookupError,
    "StoreBusyError": TimeoutError,
    "JobFailedError": RuntimeError,
    "JobNotFinalError": RuntimeError,
    "QueueFullError": RuntimeError,
    "HodeiClosedError": RuntimeError,
    "HodeiBrokenError": RuntimeError,
    "ForkedError": RuntimeError,
    "StoreFullError": RuntimeError,
    "StoreInvalidError": RuntimeError,
    "ProvisionError": RuntimeError,
}


def a_result() -> JobResult:
    return make_result(job_in(JobState.FAILED), stdout="", stderr="", truncated=False)


DATA: dict[str, dict[str, object]] = {
    "InvalidJobError": {"field": "name"},
    "KeyConflictError": {"key": "k", "job_id": "j"},
    "OutputTooLargeError": {"job_id": "j", "limit_bytes": 8},
    "JobNotFoundError": {"job_id": "j"},
    "OutputLostError": {"job_id": "j", "lost": 3},
    "JobFailedError": {"result": a_result()},
    "JobNotFinalError": {"job_id": "j"},
    "QueueFullError": {"max_pending": 5},
    "StoreInvalidError": {"job_id": "j", "gone": True},
    "ProvisionError": {"permanent": True},
}


def test_each_error_of_the_contract_has_the_one_root_and_its_fitting_builtin() -> None:
    assert set(CLASSES) == {"HodeiError", *CONTRACT}
    assert HodeiError.__bases__ == (Exception,)
    for name, builtin in CONTRACT.items():
        assert CLASSES[name].__bases__ == (HodeiError, builtin)


def test_the_tree_in_the_docstring_is_the_tree_of_the_classes() -> None:
    assert errors.__doc__ is not None
    rows = re.findall(r"^[├└]── (\w+) +\((\w+)\) +(\S.*)$", errors.__doc__, re.MULTILINE)
    drawn = {name: getattr(builtins, builtin) for name, builtin, _ in rows}
    assert drawn == {name: cls.__bases__[1] for name, cls in CLASSES.items() if name in CONTRACT}
    assert len(rows) == len(drawn)


@pytest.mark.parametrize("name", sorted(CONTRACT))
def test_an_error_carries_its_data_through_a_pickle(name: str) -> None:
    data = DATA.get(name, {})
    error = pickled(CLASSES[name]("what happened", **data))
    assert type(error) is CLASSES[name]
    assert str(error) == "what happened"
    assert {key: getattr(error, key) for key in data} == data


@pytest.mark.parametrize("name", sorted(CONTRACT))
def test_an_error_needs_no_data(name: str) -> None:
    assert str(CLASSES[name]("what happened")) == "what happened"


def test_the_data_of_an_error_is_named() -> None:
    with pytest.raises(TypeError):
        InvalidJobError("message", "name")  # type: ignore[call-arg]


def test_a_failed_job_gives_its_result() -> None:
    result = a_result()
    with pytest.raises(JobFailedError) as caught:
        result.check()
    assert caught.value.result is result


def test_a_value_in_a_message_is_short_however_large_it_is() -> None:
    assert shown("x") == "'x'"
    assert len(shown("x" * 1_000_000)) < 100
    assert shown(10**10_000) == "a very large int"
