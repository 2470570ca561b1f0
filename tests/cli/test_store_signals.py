"""How a host comes to its end."""

from __future__ import annotations

import signal
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from tests.cli.helpers import GRACEFUL, MARK, STUBBORN, Program, processes_with, run, until
from tests.cli.hosts import HostProgram, becomes, detached, job

SIGNALS = [signal.SIGINT, signal.SIGTERM]


@pytest.fixture
def store(tmp_path: Path) -> Path:
    return tmp_path / "jobs.db"


def running(store: Path, *arguments: str) -> str:
    """Leave a job to a host; return its id once it runs."""
    job_id = detached(store, "--env", f"{MARK}={store}", *arguments)
    becomes(store, job_id, "running")
    until(lambda: bool(processes_with(MARK, str(store))))
    return job_id


@pytest.mark.parametrize("number", SIGNALS)
def test_an_idle_host_stops_at_once(store: Path, number: signal.Signals) -> None:
    with HostProgram(store) as host:
        host.send(number)
        assert host.end() == 0
        assert host.said[-1] == "hodei: stopped"
    assert run("stats", "--store", str(store), "--format", "json").objects[0]["hosts"] == 0


@pytest.mark.parametrize("number", SIGNALS)
def test_the_first_signal_waits_for_what_runs_and_starts_no_more(
    store: Path, tmp_path: Path, number: signal.Signals
) -> None:
    gate = tmp_path / "gate"
    with HostProgram(store, "--slots", "1") as host:
        first = running(store, f"while [ ! -e {gate} ]; do sleep 0.02; done")
        second = detached(store, "echo second")
        host.send(number)
        host.wait_for("starting no more jobs, waiting for those that run")
        gate.touch()
        assert host.end() == 0
        assert host.says(f"job {first} SUCCEEDED")
    assert job(store, first)["state"] == "succeeded"
    assert job(store, second)["state"] == "pending"
    with HostProgram(store) as next_host:
        next_host.wait_for(f"job {second} SUCCEEDED")


def test_the_second_signal_ends_what_runs_in_order(store: Path) -> None:
    with HostProgram(store) as host:
        job_id = running(store, GRACEFUL)
        host.send(signal.SIGTERM)
        host.wait_for("waiting for those that run")
        host.send(signal.SIGTERM)
        assert host.end() == 0
        assert host.says("ending the jobs that run")
        assert processes_with(MARK, str(store)) == []
    ended = job(store, job_id)
    assert (ended["state"], ended["reason"]) == ("failed", "interrupted")
    assert run("job", "logs", "--store", str(store), job_id).out == b"ready\nbye\n"


def test_the_third_signal_kills_what_runs(store: Path) -> None:
    with HostProgram(store) as host:
        running(store, "--grace", "10", STUBBORN)
        for words in ("waiting for those", "ending the jobs", "killing the jobs"):
            host.send(signal.SIGINT)
            host.wait_for(words)
        assert host.end() == 130
        until(lambda: not processes_with(MARK, str(store)))


def test_a_host_waits_no_longer_than_it_is_told(store: Path) -> None:
    with HostProgram(store, "--shutdown-timeout", "100ms") as host:
        job_id = running(store, GRACEFUL)
        host.send(signal.SIGTERM)
        assert host.end() == 0
        assert processes_with(MARK, str(store)) == []
    assert job(store, job_id)["reason"] == "interrupted"


def test_a_quiet_host_says_nothing_of_jobs(store: Path) -> None:
    with HostProgram(store, "--quiet") as host:
        assert run("run", "--store", str(store), "exit 3").code == 3
        host.send(signal.SIGINT)
        assert host.end() == 0
        assert len(host.said) == 3
        assert not any("job " in line for line in host.said)


def test_a_run_that_dispatches_waits_for_what_it_began_for_others(store: Path) -> None:
    other = detached(store, "--env", f"{MARK}={store}", "--cpus", "0", GRACEFUL)
    with Program("run", "--store", str(store), "--cpus", "0", "--grace", "1", "exit 3") as program:
        assert program.error_line() == (
            "hodei: the job has ended; waiting for others of the store that run here "
            "(Ctrl-C ends them)\n"
        )
        assert job(store, other)["state"] == "running"
        program.send(signal.SIGINT)
        assert program.end().code == 3
    assert processes_with(MARK, str(store)) == []
    assert job(store, other)["reason"] == "interrupted"


def test_the_second_signal_ends_what_a_run_began_for_others_at_once(store: Path) -> None:
    detached(store, "--env", f"{MARK}={store}", "--cpus", "0", "--grace", "60", STUBBORN)
    with Program("run", "--store", str(store), "--cpus", "0", "exit 3") as program:
        assert "waiting for others of the store" in program.error_line()
        until(lambda: bool(processes_with(MARK, str(store))))
        program.send(signal.SIGINT)
        assert "ending the jobs of others that run here" in program.error_line()
        program.send(signal.SIGINT)
        ended = program.end()
    assert ended.code == 130
    assert "SIGINT again" in ended.err or "Ctrl-C again" in ended.err
    until(lambda: not processes_with(MARK, str(store)))


def test_the_second_signal_is_heard_by_a_run_that_took_over(store: Path, tmp_path: Path) -> None:
    gate, told = tmp_path / "gate", tmp_path / "told"
    stubborn = f"trap 'touch {told}' TERM; while :; do sleep 0.02; done"
    command = f"echo ready; while [ ! -e {gate} ]; do sleep 0.02; done"
    free = ("--store", str(store), "--cpus", "0")
    with HostProgram(store) as host:
        with Program("run", *free, "--max-attempts", "2", "--backoff", "0", command) as program:
            assert program.line() == b"ready\n"
            host.send(signal.SIGKILL)
            assert "any more: this program does" in "".join(program.error_line() for _ in range(2))
            detached(store, "--env", f"{MARK}={store}", "--cpus", "0", "--grace", "60", stubborn)
            until(lambda: bool(processes_with(MARK, str(store))))
            gate.touch()
            while "waiting for others of the store" not in program.error_line():
                pass
            program.send(signal.SIGINT)
            assert "ending the jobs of others that run here" in program.error_line()
            until(told.exists)
            program.send(signal.SIGINT)
            assert "killing the jobs of others" in program.error_line()
            assert program.end().code == 130
    until(lambda: not processes_with(MARK, str(store)))


def test_a_signal_that_comes_while_the_job_is_stored_cancels_it(
    store: Path, tmp_path: Path
) -> None:
    with HostProgram(store):
        with closing(sqlite3.connect(store, isolation_level=None)) as other:
            other.execute("begin immediate")
            with Program("run", "--store", str(store), f"touch {tmp_path}/ran") as program:
                until(lambda: waits_for_a_lock(program.process.pid))
                program.send(signal.SIGINT)
                assert "cancelling the job" in program.error_line()
                other.execute("commit")
                assert program.end().code == 130
        (listed,) = run("job", "list", "--store", str(store), "--format", "json").objects
        assert listed["state"] == "cancelled"
    assert not (tmp_path / "ran").exists()


def waits_for_a_lock(pid: int) -> bool:
    """Return whether a thread of a process sleeps, which SQLite alone has one do."""
    places = [task / "wchan" for task in Path(f"/proc/{pid}/task").iterdir()]
    return any("nanosleep" in place.read_text() for place in places)


def test_the_second_signal_leaves_the_job_to_its_host(store: Path) -> None:
    with HostProgram(store):
        with Program("run", "--store", str(store), "--grace", "2", STUBBORN) as program:
            assert program.line() == b"ready\n"
            program.send(signal.SIGINT)
            assert "cancelling the job" in program.error_line()
            program.send(signal.SIGINT)
            assert program.end().code == 130
        (fields,) = run("job", "list", "--store", str(store), "--format", "json").objects
        becomes(store, fields["job_id"], "cancelled")
        assert program.left() == []
