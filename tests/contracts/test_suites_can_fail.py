"""The suites catch stores and providers that break a rule."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import timedelta
from typing import Any, ClassVar

import anyio
import anyio.lowlevel
import attrs
import pytest

from hodei_core.backends.memory import MemoryProvider, MemoryStore
from hodei_core.backends.memory.provider import MemorySession
from hodei_core.executions import Execution, Exit
from hodei_core.logs import LogSource
from hodei_core.ports import (
    Advance,
    AttemptOutput,
    CancelRequest,
    Change,
    Outcome,
    Prune,
    RequestCancel,
    Store,
    WorkerProvider,
)
from hodei_core.testing import (
    AcceptContract,
    AdvanceContract,
    AssignmentContract,
    CancelContract,
    LogContract,
    QueueContract,
    RecordedOutput,
    RegistryContract,
    RepositoryContract,
    SessionContract,
    StoreContract,
    StoreSuite,
)
from tests.contracts.test_memory_provider import Memory as MemoryProviders
from tests.contracts.test_memory_provider import play

Break = Callable[[Any], None]


def torn_by_cancellation(store: Any) -> None:
    whole = store.apply

    async def apply(changes: Sequence[Change]) -> list[Outcome]:
        outcomes: list[Outcome] = []
        for change in changes:
            await anyio.lowlevel.checkpoint()
            outcomes += await whole([change])
        return outcomes

    store.apply = apply


def blind_to_versions(store: Any) -> None:
    advance = store._make[Advance]
    store._make[Advance] = lambda change: advance(
        attrs.evolve(change, expected=store._table[change.job.id].version)
        if change.job.id in store._table
        else change
    )


def generous(store: Any) -> None:
    store._registry.has_room = lambda worker_id: True


def begins_nothing(store: Any) -> None:
    put = store._store
    store._store = lambda submission: put(attrs.evolve(submission, attempt=None))


def begins_without_a_slot(store: Any) -> None:
    store._registry.hold = lambda job: None


def forgetful_of_conflicts(store: Any) -> None:
    store._holder = lambda submission: None


def blind_to_max_pending(store: Any) -> None:
    store._pending = lambda: -(10**9)


def keeps_the_last_cancel(store: Any) -> None:
    def request(change: RequestCancel) -> Outcome:
        jobs = [store._table[job_id] for job_id in change.job_ids if job_id in store._table]
        store._cancels.update({job.id: change.request for job in jobs})
        return Outcome(jobs=tuple(jobs))

    store._make[RequestCancel] = request


def tells_of_no_cancel(store: Any) -> None:
    class Empty(dict[Any, CancelRequest]):
        def get(self, key: object, default: object = None) -> Any:
            return None

    store._cancels = Empty()


def shows_the_last_first(store: Any) -> None:
    peek = store._queue.peek

    async def reverse(needs: Any, limit: int) -> Any:
        return (await peek(needs, 10_000))[::-1][:limit]

    store._queue.peek = reverse


def lets_in_too_early(store: Any) -> None:
    pop_due = store._queue.pop_due
    store._queue.pop_due = lambda now: pop_due(now + timedelta(seconds=1))


def forgets_the_cursor(store: Any) -> None:
    overdue = store._queue.overdue

    async def from_the_start(before: Any, after: Any, limit: int) -> Any:
        jobs = await overdue(before, None, limit)
        return [] if after is not None and jobs[-1].seq <= after[1] else jobs

    store._queue.overdue = from_the_start


def miscounts(store: Any) -> None:
    forget = store._forget

    def once_more(job_id: Any) -> None:
        store._counts[store._table[job_id].state] += 1
        forget(job_id)

    store._forget = once_more


def prunes_at_the_instant(store: Any) -> None:
    prune = store._make[Prune]
    store._make[Prune] = lambda change: prune(Prune(change.before + timedelta(microseconds=1)))


def prunes_without_bound(store: Any) -> None:
    prune = store._make[Prune]
    store._make[Prune] = lambda change: prune(Prune(change.before))


def tells_of_no_torn_end(store: Any) -> None:
    store._logs.tear = lambda *_: None


def believes_the_worker(store: Any) -> None:
    store._registry._shown = lambda worker: worker


def reads_without_bound(store: Any) -> None:
    read = store._logs.read

    async def all_of_it(job_id: Any, *, after: int, max_bytes: int) -> Any:
        return await read(job_id, after=after, max_bytes=1 << 40)

    store._logs.read = all_of_it


def welcomes_everybody(store: Any) -> None:
    async def welcome(host_id: Any) -> None:
        return None

    store.open = welcome


BROKEN_STORES: list[tuple[Break, type[StoreSuite], str]] = [
    (
        torn_by_cancellation,
        StoreContract,
        "test_a_cancelled_call_has_made_all_of_its_changes_or_none",
    ),
    (welcomes_everybody, StoreContract, "test_a_second_host_is_refused"),
    (
        blind_to_versions,
        AdvanceContract,
        "test_a_stale_writer_changes_nothing_and_is_shown_what_is_stored",
    ),
    (blind_to_versions, AdvanceContract, "test_of_many_writers_at_once_exactly_one_wins"),
    (
        generous,
        AssignmentContract,
        "test_no_more_jobs_are_assigned_than_there_are_slots",
    ),
    (generous, AssignmentContract, "test_a_draining_worker_is_given_nothing"),
    (begins_nothing, AcceptContract, "test_a_job_with_an_attempt_is_stored_as_assigned"),
    (begins_without_a_slot, AcceptContract, "test_a_job_with_an_attempt_is_stored_as_assigned"),
    (
        forgetful_of_conflicts,
        AcceptContract,
        "test_a_known_key_with_the_same_work_yields_the_first_job",
    ),
    (forgetful_of_conflicts, AcceptContract, "test_a_known_key_with_other_work_is_refused"),
    (blind_to_max_pending, AcceptContract, "test_a_full_queue_refuses_new_jobs"),
    (keeps_the_last_cancel, CancelContract, "test_the_first_request_stays"),
    (
        tells_of_no_cancel,
        CancelContract,
        "test_the_request_is_told_at_each_move_until_the_end",
    ),
    (
        shows_the_last_first,
        QueueContract,
        "test_higher_priorities_go_first_then_earlier_submissions",
    ),
    (shows_the_last_first, QueueContract, "test_the_queue_agrees_with_a_plain_model"),
    (lets_in_too_early, QueueContract, "test_a_delayed_job_is_eligible_once_it_was_let_in"),
    (forgets_the_cursor, QueueContract, "test_a_cursor_over_the_overdue_sees_each_once"),
    (miscounts, RepositoryContract, "test_counts_equal_a_recount"),
    (
        prunes_at_the_instant,
        RepositoryContract,
        "test_final_jobs_that_finished_before_are_deleted",
    ),
    (
        prunes_without_bound,
        RepositoryContract,
        "test_a_slice_deletes_no_more_than_its_limit_and_says_whether_more_is_left",
    ),
    (
        tells_of_no_torn_end,
        LogContract,
        "test_a_log_that_may_miss_its_end_goes_on_with_an_entry_that_stands_for_it",
    ),
    (believes_the_worker, RegistryContract, "test_slots_follow_the_assignments"),
    (reads_without_bound, LogContract, "test_reading_stops_where_the_data_is_enough"),
]


@pytest.mark.parametrize(
    ("break_it", "suite", "test"),
    [pytest.param(*row, id=f"{row[0].__name__}-{row[2][5:40]}") for row in BROKEN_STORES],
)
async def test_a_broken_store_is_caught(
    break_it: Break, suite: type[StoreSuite], test: str
) -> None:
    class Broken(suite):  # type: ignore[misc, valid-type]  # a class that is a parameter
        async def make_store(self) -> Store:
            store = MemoryStore()
            break_it(store)
            return store

    with pytest.raises(AssertionError):
        await getattr(Broken(), test)()


class BrokenSession(MemorySession):
    """A session that breaks one rule."""

    fault: ClassVar[str] = ""

    async def execute(self, execution: Execution, output: AttemptOutput) -> Exit:
        if self.fault == "lets the cancellation through":
            exit_ = await super().execute(execution, output)
            await anyio.lowlevel.checkpoint()
            return exit_
        if self.fault == "swaps exit codes":
            exit_ = await super().execute(execution, output)
            return Exit(code=1 if exit_.code == 0 else 0)
        if self.fault == "feeds on":
            return await super().execute(execution, Pushy(output))
        return await super().execute(execution, Careless(output, self.fault))


class Careless(AttemptOutput):
    """Passes on what it is told, but for one thing."""

    def __init__(self, output: AttemptOutput, fault: str) -> None:
        self._output = output
        self._fault = fault

    def started(self, ago: float = 0.0) -> None:
        if self._fault != "never says that it started":
            self._output.started(ago)

    def feed(self, source: LogSource, data: bytes) -> bool:
        lost = self._fault == "loses newlines"
        return self._output.feed(source, data.replace(b"\n", b"") if lost else data)

    def finish(self, source: LogSource) -> None:
        if self._fault != "does not finish":
            self._output.finish(source)

    async def ready(self) -> None:
        await self._output.ready()

    @property
    def grace(self) -> float:
        return self._output.grace


class Pushy(Careless):
    """Takes no for an answer."""

    def __init__(self, output: AttemptOutput) -> None:
        super().__init__(output, "")

    def feed(self, source: LogSource, data: bytes) -> bool:
        super().feed(source, data)
        return True


@pytest.mark.parametrize(
    ("fault", "test"),
    [
        (
            "lets the cancellation through",
            "test_a_cancelled_attempt_ends_and_its_exit_is_returned",
        ),
        ("swaps exit codes", "test_the_exit_code_is_that_of_the_job"),
        ("feeds on", "test_nothing_is_fed_while_the_buffer_is_full"),
        ("never says that it started", "test_a_job_that_prints_nothing_exits_all_the_same"),
        ("loses newlines", "test_what_is_printed_is_fed_byte_by_byte_and_finished"),
        ("does not finish", "test_what_is_printed_is_fed_byte_by_byte_and_finished"),
    ],
)
async def test_a_broken_provider_is_caught(
    fault: str, test: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Broken(MemoryProviders, SessionContract):
        async def make_provider(self) -> WorkerProvider:
            return MemoryProvider(play, slots=3)

    monkeypatch.setattr(BrokenSession, "fault", fault)
    monkeypatch.setattr("hodei_core.backends.memory.provider.MemorySession", BrokenSession)
    caught: Exception | None = None
    try:
        await getattr(Broken(), test)()
    except Exception as error:
        caught = error
    assert caught is not None
    assert holds_an_assertion(caught)


def holds_an_assertion(error: BaseException) -> bool:
    inner: tuple[BaseException, ...] = getattr(error, "exceptions", ())
    return isinstance(error, AssertionError) or any(map(holds_an_assertion, inner))


def test_an_output_holds_the_session_to_the_rules() -> None:
    output = RecordedOutput()
    with pytest.raises(AssertionError, match="before it was started"):
        output.feed(LogSource.STDOUT, b"early")
    output.started()
    with pytest.raises(AssertionError, match="started twice"):
        output.started()
    with pytest.raises(AssertionError, match="fed as"):
        output.feed(LogSource.SYSTEM, b"not a session's")
    output.feed(LogSource.STDOUT, b"data")
    with pytest.raises(AssertionError, match="not finished"):
        output.assert_finished()
    output.returned = True
    with pytest.raises(AssertionError, match="after execute had returned"):
        output.feed(LogSource.STDOUT, b"late")
    with pytest.raises(AssertionError, match="after execute had returned"):
        output.finish(LogSource.STDOUT)
