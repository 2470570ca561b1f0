"""The values that only hold what others found out."""

from __future__ import annotations

import pickle
from datetime import timedelta
from typing import Any

import attrs
import pytest

from hodei_core import events
from hodei_core.executions import Execution, Exit, Output
from hodei_core.explanations import Explanation
from hodei_core.ids import JobId, WorkerId
from hodei_core.jobs import Attempt, Job, Usage
from hodei_core.logs import LogEntry
from hodei_core.resources import Resources
from hodei_core.results import JobResult
from hodei_core.scheduling.needs import Needs
from hodei_core.states import JobState, Reason
from hodei_core.stats import ProviderStats, Stats
from hodei_core.workers import Offer, Worker, WorkerState
from tests.values.helpers import JOB, NOW, WORKER, assert_frozen, pickled, run_python, spec

OF_JOB: dict[str, Any] = {"at": NOW, "job_id": JOB, "version": 3}
OF_WORKER: dict[str, Any] = {"at": NOW, "worker_id": WORKER, "provider": "local"}
OF_PROVIDER: dict[str, Any] = {"at": NOW, "provider": "local", "message": "why"}

EVENTS: list[events.Event] = [
    events.JobSubmitted(**OF_JOB, name="n"),
    events.JobAssigned(**OF_JOB, worker_id=WORKER, attempt=1),
    events.JobStarted(**OF_JOB, worker_id=WORKER, attempt=1),
    events.JobRetried(**OF_JOB, attempt=1, reason=Reason.EXIT_CODE, due_at=NOW),
    events.JobFinished(**OF_JOB, state=JobState.FAILED, reason=Reason.POISON, exit_code=None),
    events.JobStuck(**OF_JOB, waited=timedelta(minutes=5), explanation="no worker"),
    events.WorkerProvisioning(**OF_WORKER),
    events.WorkerReady(**OF_WORKER),
    events.WorkerDraining(**OF_WORKER),
    events.WorkerTerminated(**OF_WORKER),
    events.WorkerLost(**OF_WORKER, message="gone"),
    events.ProviderTripped(**OF_PROVIDER),
    events.ProviderRecovered(**OF_PROVIDER),
    events.SubscriberLagged(at=NOW, missed=5),
]

EXPLANATION = Explanation(
    job_id=JOB,
    state=JobState.PENDING,
    summary="no worker has room",
    workers=((WorkerId("w-1"), "busy"),),
    providers=(("docker", "at its limit"),),
    position=0,
)
WORKER_VALUE = Worker(
    id=WORKER,
    provider="local",
    state=WorkerState.READY,
    slots=2,
    resources=Resources(2),
    labels={"gpu": "no"},
)

VALUES: list[object] = [
    *EVENTS,
    EXPLANATION,
    WORKER_VALUE,
    Offer(provider="local", labels={"a": "b"}),
    Needs.of(spec(requires={"a": "b"}, image="i", provider="p")),
    Execution(job_id=JOB, attempt=1, spec=spec()),
    Exit(code=0, usage=Usage(cpu=timedelta(0), max_rss_bytes=1)),
]


@pytest.mark.parametrize("value", VALUES, ids=lambda value: type(value).__name__)
def test_a_value_is_frozen_hashable_and_survives_a_pickle(value: object) -> None:
    assert pickled(value) == value
    assert hash(pickled(value)) == hash(value)
    assert_frozen(value)
    assert repr(value).startswith(type(value).__name__ + "(")


def test_the_events_are_those_of_the_contract() -> None:
    assert " ".join(type(event).__name__ for event in EVENTS) == (
        "JobSubmitted JobAssigned JobStarted JobRetried JobFinished JobStuck "
        "WorkerProvisioning WorkerReady WorkerDraining WorkerTerminated WorkerLost "
        "ProviderTripped ProviderRecovered SubscriberLagged"
    )
    leaves = {
        cls.__name__
        for cls in vars(events).values()
        if isinstance(cls, type) and issubclass(cls, events.Event) and not cls.__subclasses__()
    }
    assert leaves == {type(event).__name__ for event in EVENTS}


@pytest.mark.parametrize("event", EVENTS, ids=lambda event: type(event).__name__)
def test_an_event_says_when_and_of_what(event: events.Event) -> None:
    names = {field.name for field in attrs.fields(type(event))}
    assert "at" in names
    assert (
        {"job_id", "version"} <= names
        or "worker_id" in names
        or {"provider", "message"} <= names
        or isinstance(event, events.SubscriberLagged)
    )


CONTRACT: dict[type[Any], str] = {
    Job: "id spec state waiting_for version attempts submitted_at due_at started_at finished_at "
    "reason exit_code retried_from",
    JobResult: "job_id name state reason message exit_code attempts submitted_at started_at "
    "finished_at stdout stderr truncated",
    Attempt: "number worker_id provider assigned_at started_at finished_at reason exit_code usage",
    Usage: "cpu max_rss_bytes",
    LogEntry: "job_id attempt seq at source data partial lost",
    Explanation: "job_id state summary workers providers position history",
    Stats: "pending jobs workers slots_used slots_total providers",
    Worker: "id provider state slots slots_used resources labels image jobs ready_at idle_since",
    ProviderStats: "workers wanted max_workers breaker retry_at startup failures last_error",
    Execution: "job_id attempt spec",
}


@pytest.mark.parametrize("cls", list(CONTRACT), ids=lambda cls: cls.__name__)
def test_a_value_has_the_fields_of_the_contract(cls: type[Any]) -> None:
    assert set(CONTRACT[cls].split()) <= {field.name for field in attrs.fields(cls)}


@pytest.mark.parametrize(
    "cls", [*CONTRACT, *(type(event) for event in EVENTS)], ids=lambda cls: cls.__name__
)
def test_the_fields_of_a_value_are_given_by_name(cls: type[Any]) -> None:
    assert all(field.kw_only for field in attrs.fields(cls))


def test_an_explanation_as_text_is_the_answer() -> None:
    assert str(EXPLANATION) == (
        "no worker has room\n  worker w-1: busy\n  provider docker: at its limit"
    )
    assert str(Explanation(job_id=JOB, state=JobState.FAILED, summary="it ended")) == "it ended"


def test_stats_survive_a_pickle_and_cannot_be_changed() -> None:
    provider = ProviderStats(
        workers=dict.fromkeys(WorkerState, 0),
        wanted=0,
        max_workers=1,
        breaker="closed",
        retry_at=None,
        startup=None,
        failures=0,
        last_error=None,
    )
    stats = Stats(
        pending=0,
        jobs=dict.fromkeys(JobState, 0),
        workers=dict.fromkeys(WorkerState, 0),
        slots_used=0,
        slots_total=1,
        providers={"local": provider},
    )
    assert pickled(stats) == stats
    assert_frozen(stats)
    assert_frozen(provider)


def test_the_labels_of_a_worker_are_its_own() -> None:
    labels = {"gpu": "yes"}
    offer = Offer(provider="local", labels=labels)
    labels["gpu"] = "no"
    assert offer.labels == {"gpu": "yes"}


def test_jobs_with_equal_needs_are_one_class() -> None:
    first = Needs.of(spec(command="a", requires={"a": "1", "b": "2"}, priority=1))
    second = Needs.of(spec(command="b", requires={"b": "2", "a": "1"}, name="x", key="k"))
    assert first == second
    assert hash(first) == hash(second)
    assert Needs.of(spec()) == Needs()


@pytest.mark.parametrize(
    "fields",
    [
        {"resources": Resources(2)},
        {"image": "i"},
        {"requires": {"a": "b"}},
        {"provider": "p"},
    ],
    ids=lambda fields: next(iter(fields)),
)
def test_each_need_makes_a_class_of_its_own(fields: dict[str, Any]) -> None:
    needs = Needs.of(spec(**fields))
    assert needs != Needs()
    assert all(getattr(needs, name) == value for name, value in fields.items())


def test_the_hash_of_needs_does_not_travel_in_a_pickle() -> None:
    needs = Needs.of(spec(image="i", requires={"a": "b"}))
    hash(needs)
    script = (
        "import pickle, sys\n"
        "from hodei_core.scheduling.needs import Needs\n"
        "from hodei_core.specs import JobSpec\n"
        "loaded = pickle.loads(sys.stdin.buffer.read())\n"
        "fresh = Needs.of(JobSpec('true', image='i', requires={'a': 'b'}))\n"
        "print(loaded == fresh, hash(loaded) == hash(fresh))"
    )
    output = run_python(script, data=pickle.dumps(needs), hash_seed=6)
    assert output.split() == [b"True", b"True"]


def test_an_output_is_a_contract_and_no_more() -> None:
    with pytest.raises(TypeError):
        Output()  # type: ignore[abstract]


def test_an_exit_is_that_of_a_process_unless_told_otherwise() -> None:
    assert Exit(code=None) == Exit(code=None, usage=None, out_of_memory=False)
    assert JobId("a") == "a"
