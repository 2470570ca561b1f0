"""Bugs to plant in our own code, each of which the tests must catch."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True)
class Bug:
    """A change that breaks a promise."""

    name: str
    file: str
    """Below `src/hodei_core`."""

    before: str
    """What stands there exactly once."""

    after: str
    tests: tuple[str, ...] = field(default=())
    """Named tests that catch it, where the simulator need not."""

    simulated: bool = True
    """Whether what is broken is in the simulator at all."""


BUGS = (
    Bug(
        "drop the version check",
        "backends/memory/store.py",
        "if current is None or current.version != change.expected:",
        "if current is None:",
    ),
    Bug(
        "forget the reservation",
        "runtime/fleet.py",
        "        self.index.reserve(worker_id, job.spec.resources, job.spec.name)\n",
        "        self.index[worker_id]\n",
    ),
    Bug(
        "count arriving workers not at all",
        "runtime/fleet_view.py",
        "            if view.arriving:\n                yield",
        "            if view.arriving < 0:\n                yield",
        ("tests/fleet/test_provisioning.py",),
    ),
    Bug(
        "count arriving workers twice",
        "runtime/fleet_view.py",
        "yield view.offer, view.arriving",
        "yield view.offer, 2 * view.arriving",
        ("tests/fleet/test_provisioning.py",),
    ),
    Bug(
        "terminate a busy worker",
        "runtime/fleet.py",
        "        if self.index[member.id].slots_used == 0:\n            member.end()\n",
        "        member.end()\n",
        ("tests/fleet/test_retirement.py",),
    ),
    Bug(
        "measure idleness from the heartbeat",
        "runtime/member.py",
        "                    self._silence.cancel()\n",
        "                    self._silence.cancel()\n"
        "                    self.freed = self._fleet.clock.monotonic()\n",
        ("tests/fleet/test_retirement.py",),
    ),
    Bug(
        "wake nobody when a slot is freed",
        "runtime/assigner.py",
        "            self._backlog.wake(self._fleet.index[attempt.worker_id].offer)\n",
        "            pass\n",
    ),
    Bug(
        "a breaker that never probes",
        "scheduling/breaker.py",
        "            return now >= self.retry_at",
        "            return False",
    ),
    Bug(
        "replay the history of a log twice",
        "runtime/log_stream.py",
        "                self._lines = segment.lines(self._cursor)",
        "                self._lines = segment.lines()",
        ("tests/runtime/test_log_stream.py",),
    ),
    Bug(
        "forget the end of a log",
        "runtime/dispatcher.py",
        "        self._logs.close(job.id)\n        self._waiters.wake(job, printed)",
        "        self._waiters.wake(job, printed)",
        ("tests/runtime/test_field_report.py",),
    ),
    Bug(
        "forget those who wait",
        "runtime/dispatcher.py",
        "        self._logs.close(job.id)\n        self._waiters.wake(job, printed)",
        "        self._logs.close(job.id)",
    ),
    Bug(
        "make a worker before the intent is written",
        "runtime/member.py",
        "        await self._fleet.keep_row(self.row())\n        if self._ending:",
        "        if self._ending:",
    ),
    Bug(
        "forget a worker whose making failed",
        "runtime/member.py",
        "            await self._until(lambda: self._provider.discard(self.id))\n"
        "            self.state = WorkerState.TERMINATED\n            self._fleet",
        "            self.state = WorkerState.TERMINATED\n            self._fleet",
    ),
    Bug(
        "one worker too many",
        "runtime/provided.py",
        "return self.policy.max_workers - len(self.members)",
        "return self.policy.max_workers + 1 - len(self.members)",
    ),
    Bug(
        "one attempt too many",
        "endings.py",
        "counted < policy.max_attempts and",
        "counted <= policy.max_attempts and",
    ),
    Bug(
        "rescue jobs while their workers live",
        "runtime/rescue.py",
        "            await self._discard(worker, provider)\n            for job",
        "            for job",
    ),
    Bug(
        "try again before the lost worker is gone",
        "runtime/slot.py",
        "                certain = await self._lost(str(error))",
        "                certain = True",
        ("tests/fleet/test_losses.py",),
    ),
    Bug(
        "drop the row of a worker on its way",
        "runtime/rescue.py",
        "if worker.state is WorkerState.PROVISIONING:",
        "if False:",
        ("tests/simulation/test_hosts.py",),
    ),
    Bug(
        "never notice that the lease is gone",
        "runtime/membership.py",
        "        if not outcome.applied:\n            self._lose(",
        "        if not outcome.applied and self._record is None:\n            self._lose(",
    ),
    Bug(
        "take a host for dead after a second",
        "runtime/membership.py",
        "            if other.age >= LEASE_SECONDS:",
        "            if other.age >= 1:",
        ("tests/simulation/test_hosts.py",),
    ),
    Bug(
        "append a log again whose commit was uncertain",
        "backends/memory/logs.py",
        "            if segment.first_seq > log.last:  # else",
        "            if segment.first_seq > 0:  # else",
    ),
    Bug(
        "take an uncertain commit for a refusal",
        "runtime/dispatcher.py",
        "return isinstance(change, Advance) and not outcome.applied and outcome.jobs == "
        "(change.job,)",
        "return False",
    ),
    Bug(
        "begin a log anew on another host",
        "runtime/dispatcher.py",
        "        self._logs.open(job.id, last=bounds.last)",
        "        self._logs.open(job.id)",
        ("tests/simulation/test_hosts.py",),
    ),
    Bug(
        "let a drained worker take more",
        "runtime/fleet.py",
        "        self.index.stop(member.id)\n        member.drain()",
        "        member.drain()",
        ("tests/fleet/test_retirement.py",),
    ),
    Bug(
        "never look at what a dead host had covered",
        "runtime/neighbourhood.py",
        "        self._dispatcher.look_at_all()\n\n    async def rescue",
        "\n    async def rescue",
    ),
    Bug(
        "lose a cancel that comes between two attempts",
        "runtime/dispatcher.py",
        "        if outcome.cancel is not None:\n"
        "            self.cancel(job.id, outcome.cancel.reason)\n",
        "",
        ("tests/runtime/test_cancel.py",),
    ),
    Bug(
        "lose a cancel that comes while its job is stored",
        "runtime/dispatcher.py",
        "            elif job_id in self._arrivals:",
        "            elif False:",
        ("tests/runtime/test_arrivals.py",),
    ),
    Bug(
        "tell of a state before it is stored",
        "runtime/recorder.py",
        "                job = run.job.started(run.started_at)\n",
        "                job = run.job.started(run.started_at)\n"
        "                self._reporter.started(job)\n",
        ("tests/runtime/test_events.py",),
    ),
    Bug(
        "keep no worker for the overtaken",
        "scheduling/fairness.py",
        "            self._index.keep(best.id, watch.key)\n",
        "            pass\n",
        ("tests/scheduling/test_fairness.py",),
    ),
    Bug(
        "forget when the next delayed job is due",
        "runtime/waiting.py",
        "        if due_at is not None:\n"
        "            self._arm_due(due_at)\n"
        "        return outcome.jobs",
        "        return outcome.jobs",
        ("tests/runtime/test_time.py", "tests/runtime/test_queueing.py"),
    ),
    Bug(
        "drop the version check of SQLite",
        "backends/sqlite/transaction.py",
        "if version != change.expected or (",
        "if version < 0 or (",
        ("tests/simulation/test_shadow.py",),
        simulated=False,
    ),
    Bug(
        "let a host assign that was given up",
        "backends/sqlite/slots.py",
        "if not self._is_registered(host_id):",
        "if False:",
        ("tests/simulation/test_shadow.py", "tests/contracts/test_sqlite_store.py"),
        simulated=False,
    ),
    Bug(
        "tell a subscriber of one's own changes at once",
        "runtime/reporter.py",
        "    def assigned(self, job: Job) -> None:\n"
        '        """Tell that a worker is to run the job."""\n'
        '        self._log(job, "assigned")\n'
        "        if self._bus and not self._shared:",
        "    def assigned(self, job: Job) -> None:\n"
        '        """Tell that a worker is to run the job."""\n'
        '        self._log(job, "assigned")\n'
        "        if self._bus:",
    ),
    Bug(
        "wake nobody who waits for another host's job",
        "runtime/dispatcher.py",
        "ended = told & waited_for.keys()",
        "ended = told - told",
    ),
    Bug(
        "submit in two transactions",
        "backends/sqlite/transaction.py",
        "        self._counts[job.state.value] += 1\n        self._tell(seq, needs if",
        '        self._sql("commit")\n        self._sql("begin immediate")\n'
        "        self._counts[job.state.value] += 1\n        self._tell(seq, needs if",
        ("tests/kill/test_kill.py",),
        simulated=False,
    ),
    Bug(
        "keep the slot of a job that was not stored",
        "runtime/arrivals.py",
        "            else:\n                self._let_go(attempt, submitted)\n",
        "",
        ("tests/runtime/test_arrivals.py",),
    ),
    Bug(
        "begin nothing whose submission got no answer",
        "runtime/arrivals.py",
        "                found.append(job)\n",
        "                pass\n",
        ("tests/sqlite/test_unanswered.py",),
    ),
    Bug(
        "start before it is written down",
        "backends/local/guard.py",
        "            self.note_start(job)\n",
        "            job.since = 1.0\n",
        ("tests/local/test_journal.py", "tests/sqlite/test_liveness.py"),
        simulated=False,
    ),
    Bug(
        "give a job to another while its guard lives",
        "backends/local/journal.py",
        "            fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)",
        "            pass",
        ("tests/local/test_journal.py", "tests/sqlite/test_liveness.py"),
        simulated=False,
    ),
    Bug(
        "never end what a stopped host runs",
        "backends/local/provider.py",
        "        for session in self._sessions.values():\n"
        "            session.hold_until(self._lease.until)\n",
        "",
        ("tests/sqlite/test_liveness.py",),
        simulated=False,
    ),
    Bug(
        "take a rescued attempt for one that was never started",
        "runtime/rescue.py",
        "    if evidence.kind is EvidenceKind.NEVER_STARTED and job.state is JobState.ASSIGNED:",
        "    if job.state is JobState.ASSIGNED:",
        ("tests/simulation/test_hosts.py",),
    ),
    Bug(
        "follow what is stored last first",
        "runtime/plan.py",
        "in zip(self._settlers, outcomes, strict=True):",
        "in [*zip(self._settlers, outcomes, strict=True)][::-1]:",
        ("tests/simulation/test_hosts.py",),
    ),
    Bug(
        "look at the workers of dead hosts before their jobs",
        "runtime/rescue.py",
        "        jobs = await self._hosts.abandoned_jobs()\n"
        "        workers = await self._hosts.abandoned_workers()\n",
        "        workers = await self._hosts.abandoned_workers()\n"
        "        jobs = await self._hosts.abandoned_jobs()\n",
        ("tests/simulation/test_late_answers.py",),
    ),
    Bug(
        "write what goes with the end of an attempt twice",
        "runtime/log_writer.py",
        " or buffer.handed_over:",
        ":",
        ("tests/sqlite/test_log_replay.py",),
        simulated=False,
    ),
    Bug(
        "forget what comes while the queue is read",
        "runtime/assigner.py",
        "        for job in look.came:  # the answer may be older\n",
        "        for job in ():\n",
        ("tests/sqlite/test_late_reads.py",),
        simulated=False,
    ),
    Bug(
        "keep the files of hosts beside a link",
        "backends/sqlite/store.py",
        "{os.path.realpath(self._path)}-hosts",
        "{self._path}-hosts",
        ("tests/sqlite/test_refusals.py",),
        simulated=False,
    ),
    Bug(
        "store an end over a cancel request that was not heard",
        "runtime/recorder.py",
        "unless_cancelled=unless",
        "unless_cancelled=False",
        ("tests/simulation/test_hosts.py",),
    ),
    Bug(
        "forget an incarnation that was just being registered",
        "runtime/membership.py",
        "        self._registered.append(new_id)\n",
        "",
        ("tests/simulation/test_hosts.py",),
    ),
)
