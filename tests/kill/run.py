"""One run: hosts that are killed one after the other, one that ends all, and what must hold."""

from __future__ import annotations

import shutil
import signal
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import attrs

from tests.kill import image as images
from tests.kill import ledger as ledgers
from tests.kill.blows import (
    KINDS,
    Blow,
    Host,
    blows,
    end_marked,
    guards_of,
    is_guard,
    marked,
    signal_guards,
)
from tests.kill.host_program import BUSY
from tests.kill.image import FINAL, Image, Row
from tests.kill.ledger import Ledger
from tests.kill.plan import LOST, RELEASE, Planned, plan

HOST_SECONDS = 100.0  # that a host may take until all is final
GONE_SECONDS = 10.0  # that what the dead left may take to be gone
ROLES = {"closing": "leaving", "accepting": "submitting"}
"""What the first host does, unless it does all."""

UNSEEN = ("alone", "guard", "stopped")
"""The kinds in which attempts can be lost while nobody looks at the file."""

_SIGNALLED = 128  # exit codes above it are signals: no job of ours has noted those


@attrs.define
class Outcome:
    """What a run has shown."""

    kind: str
    seed: int
    blows: list[str] = attrs.field(factory=list)
    """Those that were dealt, and what became of their hosts."""

    problems: list[str] = attrs.field(factory=list)
    facts: Counter[str] = attrs.field(factory=Counter)

    @property
    def replay(self) -> str:
        return f"python -m tests.kill --kind {self.kind} --first {self.seed} --runs 1"


def play(kind: str, seed: int) -> Outcome:
    """Make one run in a folder of its own, which stays if a promise was broken."""
    outcome = Outcome(kind, seed)
    folder = Path(tempfile.mkdtemp(prefix=f"hodei-kill-{kind}-{seed}-"))
    (folder / "locks").mkdir()
    try:
        Run(kind, seed, folder, outcome).play()
    except Exception as error:
        outcome.problems.append(f"the harness failed: {error!r}")
    if outcome.problems:
        outcome.problems.append(f"what it left is in {folder}")
        outcome.problems += (folder / "errors").read_text().splitlines()[-12:]
    else:
        shutil.rmtree(folder)
    return outcome


class Run:
    """Plays a run, and gathers what was wrong."""

    def __init__(self, kind: str, seed: int, folder: Path, outcome: Outcome) -> None:
        self.kind = kind
        self.seed = seed
        self.folder = folder
        self.outcome = outcome
        self.plan = {planned.name: planned for planned in plan(seed, folder)}
        self.seen = Image()
        """The store as it was when it was last looked at."""

        self.lost: dict[tuple[str, int], str] = {}
        """The attempts that were open when a host died, by id and number, and that host."""

        self.hosts: set[str] = set()
        self.workers: set[str] = set()
        """Those of hosts that died: rescued in time, and dropped by whoever does it."""

        self.guards: list[int] = []

    def play(self) -> None:
        if self.kind != "stopped":
            self._release()
        role = ROLES.get(self.kind, "first")
        for blow in (*blows(self.kind, self.seed), None):
            if not self._host(role, blow):
                return
            role = "again"
        self._check_end()

    def _host(self, role: str, blow: Blow | None) -> bool:
        """Run one host; return whether it went as it was meant to."""
        host = Host(self.folder, self.seed, role, blow)
        fate = host.fate(HOST_SECONDS)
        guards = guards_of(host.pid)
        if blow is not None and fate == "stopped":
            return self._beside(host, blow)
        if blow is not None:
            self.outcome.blows.append(f"{blow}: {fate}")
            self.outcome.facts[f"{self.kind} kills"] += fate == "killed"
            self.outcome.facts[f"{self.kind} not reached"] += fate == "closed"
        self._look()
        if fate not in ("killed", "closed") or (blow is None and fate != "closed"):
            self._problem(f"host {role}: {fate}; not final: {self.seen.unfinished}")
            return False
        if fate == "killed":
            self.hosts.update(self.seen.hosts)
            self.workers.update(self.seen.workers)
        self.guards += guards
        if blow is not None and blow.guard == "asleep":
            threading.Timer(blow.pause, signal_guards, (guards, signal.SIGCONT)).start()
        return True

    def _release(self) -> None:
        (self.folder / "locks" / RELEASE).touch()

    def _beside(self, stopped: Host, blow: Blow) -> bool:
        """Run another host while one is stopped, which then goes on; both are to end well."""
        self.outcome.facts["stopped kills"] += 1
        timer = threading.Timer(blow.pause, stopped.go_on)
        timer.start()
        # So that some attempts last for as long as it is stopped, and could be begun again.
        releasing = threading.Timer(blow.pause + 2, self._release)
        releasing.start()
        busy = fate = f"it ended with {BUSY}"
        while fate == busy:  # it was stopped in the midst of a commit
            fate = Host(self.folder, self.seed, "again", None).fate(HOST_SECONDS)
        fates = [fate, stopped.fate(HOST_SECONDS)]
        timer.join()
        releasing.join()
        self.outcome.blows.append(f"{blow}: {fates}")
        self._look()
        if fates != ["closed", "closed"]:
            self._problem(f"hosts: {fates}; not final: {self.seen.unfinished}")
        return not self.outcome.problems

    def _look(self) -> None:
        """Look at the store between two hosts."""
        now = images.take(self.folder / "jobs.db")
        self._problems(images.problems(now))
        self._problems(images.contradictions(self.seen, now))
        self._problems(self._missing(now, ledgers.read(self.folder / "ledger")))
        self.seen = now
        for id_, job in now.jobs.items():
            if job["worker"] is not None:
                self.lost[id_, job["attempt"]] = job["host"]
        self.outcome.facts["images"] += 1

    def _missing(self, now: Image, ledger: Ledger) -> Iterator[str]:
        """Yield what a user was told, and the store does not hold."""
        for id_, name in ledger.accepted.items():
            if id_ not in now.jobs:
                yield f"{name} was accepted and is not there"
        for id_, (state, code) in ledger.told.items():
            job = now.jobs.get(id_)
            if job is not None and (job["state"], str(job["exit_code"])) != (state, code):
                yield f"{job['name']} was told to be {state} with {code}: {job}"
        stored = Counter(job["name"] for job in now.jobs.values())
        for name, count in stored.items():
            if count > 1:
                yield f"{name} is there {count} times"
        for batch in {planned.batch for planned in self.plan.values()} - {0}:
            names = {p.name for p in self.plan.values() if p.batch == batch}
            there = names & stored.keys()
            if there and there != names:
                yield f"of batch {batch} only {sorted(there)} were accepted"

    # At the end

    def _check_end(self) -> None:
        now, ledger = self.seen, ledgers.read(self.folder / "ledger")
        self._problems(ledger.problems)
        for job in now.jobs.values():
            self._problems(self._bad_ending(job, ledger))
            stored = now.last.get(job["seq"], 0)
            if ledger.read.get(job["id"]) != stored:
                told = ledger.read.get(job["id"])
                self._problem(f"of the log of {job['name']} {told} were read of {stored}")
        hosts, workers = set(now.hosts) - self.hosts, now.workers.keys() - self.workers
        if hosts or workers:
            self._problem(f"hosts {hosts} and workers {workers} have not left the register")
        self._check_nothing_left()
        self._count(now, ledger)

    def _bad_ending(self, job: Row, ledger: Ledger) -> Iterator[str]:
        name, attempts = job["name"], job["attempts"]
        planned = self.plan[name]
        if job["state"] not in FINAL:
            yield f"{name} is {job['state']} though all is over"
        starts = {n: count for (id_, n), count in ledger.starts.items() if id_ == job["id"]}
        if starts and (max(starts) > len(attempts) or max(starts.values()) > 1):
            yield f"{name} started {starts}, and has attempts {len(attempts)}"
        counted = sum(not attempt.get("uncounted", False) for attempt in attempts)
        most = planned.spec.retry.max_attempts
        if counted > most:
            yield f"{name} has {counted} attempts that count, of {most}"
        if most == 1 and len(starts) > 1 and not planned.spec.retry.requeue_interrupted:
            yield f"{name} may start once, and started {starts}"
        for attempt in attempts:
            yield from self._bad_attempt(job, planned, attempt, ledger)
        yield from self._bad_state(job, planned, counted)

    def _bad_attempt(
        self, job: Row, planned: Planned, attempt: Row, ledger: Ledger
    ) -> Iterator[str]:
        name, number = job["name"], attempt["number"]
        code = attempt.get("exit_code")
        noted = ledger.ends.get((job["id"], number))
        if code is not None and code <= _SIGNALLED and code != noted:
            yield f"attempt {number} of {name} has exit code {code}, it was {noted}"
        reason = attempt.get("reason")
        if (
            reason == LOST[0].value
            and (job["id"], number) not in self.lost
            and self.kind
            not in ("alone", "guard", "stopped")  # those were not looked at when it happened
        ):
            yield f"attempt {number} of {name} was lost, and no host died under it"
        output, wanted = self.seen.output(job, number), planned.kind.stdout
        # What a host had not stored yet is gone with it, though its guard tells how the job ended.
        whole = reason is None and code == 0 and not self.seen.is_torn(job, number)
        if output != wanted and (whole or not wanted.startswith(output)):
            yield f"attempt {number} of {name} printed {len(output)} of {len(wanted)} bytes"

    def _bad_state(self, job: Row, planned: Planned, counted: int) -> Iterator[str]:
        kind, name = planned.kind, job["name"]
        ended_by_us = job["reason"] in {reason.value for reason in LOST}
        interrupted = self.kind == "closing" and job["reason"] == "interrupted"
        if ended_by_us or interrupted:
            return
        if job["state"] != kind.state.value:
            yield f"{name} is {job['state']} ({job['reason']}), not {kind.state.value}"
        elif kind.code is not None and job["exit_code"] != kind.code:
            yield f"{name} has exit code {job['exit_code']}, not {kind.code}"
        elif kind.attempts is not None and counted != kind.attempts and not self._was_lost(job):
            yield f"{name} has {counted} attempts, not {kind.attempts}"

    def _was_lost(self, job: Row) -> bool:
        return any(a.get("reason") in ("worker_lost", "interrupted") for a in job["attempts"])

    def _check_nothing_left(self) -> None:
        left: dict[int, str] = {}
        guards = self.guards
        deadline = time.monotonic() + GONE_SECONDS
        while time.monotonic() < deadline:
            left = marked(self.folder.name)
            guards = [pid for pid in self.guards if is_guard(pid)]
            if not left and not guards:
                return
            time.sleep(0.05)
        self._problem(f"processes are left: {left}, guards {guards}")
        end_marked(left, self.folder.name)
        signal_guards(guards, signal.SIGKILL)

    def _count(self, now: Image, ledger: Ledger) -> None:
        facts = self.outcome.facts
        facts["jobs"] += len(now.jobs)
        facts["accepted"] += len(ledger.accepted)
        facts["attempts"] += sum(len(job["attempts"]) for job in now.jobs.values())
        facts["starts"] += sum(ledger.starts.values())
        facts["entries of logs"] += sum(now.last.values())
        for job in now.jobs.values():
            facts["poison"] += job["reason"] == "poison"
        for (id_, number), host in self.lost.items():
            attempt = (now.jobs[id_]["attempts"][number - 1 : number] or [{}])[0]
            if attempt.get("host") != host:
                facts["given back"] += 1
            elif attempt.get("exit_code") is not None:
                facts["exit codes recovered"] += 1
            else:
                facts["rescued"] += 1

    def _problem(self, text: str) -> None:
        self.outcome.problems.append(text)

    def _problems(self, texts: Iterator[str] | list[str]) -> None:
        self.outcome.problems += texts


ALL_KINDS = list(KINDS)
