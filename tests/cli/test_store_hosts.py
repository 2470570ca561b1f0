"""A host in one process, and clients of its store in others."""

from __future__ import annotations

import re
import signal
import subprocess
from pathlib import Path

import pytest

from tests.cli.helpers import GRACEFUL, HODEI, MARK, TIMEOUT, Program, processes_with, run, until
from tests.cli.hosts import HostProgram, becomes, detached, job


@pytest.fixture
def store(tmp_path: Path) -> Path:
    return tmp_path / "jobs.db"


def test_a_run_is_done_by_the_host_that_is_there(store: Path) -> None:
    with HostProgram(store) as host:
        ended = run("run", "--store", str(store), "echo out; echo err >&2; exit 7")
        assert (ended.code, ended.out, ended.err) == (7, b"out\n", "err\n")
        host.wait_for("FAILED (exit code 7)")


def test_a_host_says_of_each_attempt_how_it_ended(store: Path) -> None:
    with HostProgram(store) as host:
        job_id = detached(store, "--max-attempts", "2", "--backoff", "10ms", "kill -9 $$")
        host.wait_for(f"job {job_id}: attempt 1 failed (SIGNALLED); the next follows in 0.0 s")
        host.wait_for(f"job {job_id} FAILED (exit code 137)")


def test_a_run_whose_job_has_to_wait_says_why(store: Path, tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    with HostProgram(store, "--slots", "1"):
        detached(store, f"while [ ! -e {gate} ]; do sleep 0.02; done")
        with Program("run", "--store", str(store), "echo hello") as waiting:
            said = waiting.error_line()
            assert re.fullmatch(r"hodei: job \S+: It is PENDING: every worker .* in use .*\n", said)
            gate.touch()
            ended = waiting.end()
    assert (ended.code, ended.out, ended.err) == (0, b"hello\n", "")


def test_a_run_is_in_the_directory_where_it_was_asked_for(store: Path, tmp_path: Path) -> None:
    folder = tmp_path / "here"
    folder.mkdir()
    with HostProgram(store):
        assert run("run", "--store", str(store), "pwd", cwd=folder).out == f"{folder}\n".encode()
        below = run("run", "--store", str(store), "--cwd", "here", "pwd", cwd=tmp_path)
        assert below.out == f"{folder}\n".encode()


def test_without_a_host_a_run_dispatches_itself(store: Path) -> None:
    ended = run("run", "--store", str(store), "--format", "json", "echo hello; exit 3")
    assert (ended.code, ended.err) == (3, "")
    assert [fields["type"] for fields in ended.objects] == ["log", "result"]
    assert run("stats", "--store", str(store), "--format", "json").objects[0]["hosts"] == 0


def test_a_decorated_run_is_done_by_a_host_too(store: Path) -> None:
    with HostProgram(store):
        ended = run("job", "run", "--store", str(store), "--command", "echo hello")
    lines = ended.out.decode().splitlines()
    assert ended.code == 0
    assert lines[2].endswith("[OUT] hello")
    assert lines[3].startswith("📊 SUCCEEDED  exit 0  1 log line")


def test_a_key_finds_the_job_that_is_there(store: Path) -> None:
    first = detached(store, "--key", "k", "--delay", "1h", "true")
    assert detached(store, "--key", "k", "--delay", "1h", "true") == first
    other = run("run", "--store", str(store), "--detach", "--key", "k", "false")
    assert (other.code, other.out, other.err.count("\n")) == (1, b"", 1)


def test_a_job_that_is_left_with_no_host_says_so_and_waits_for_one(store: Path) -> None:
    ended = run("run", "--store", str(store), "--detach", "echo done")
    assert ended.err.startswith(f"hodei: no host dispatches from {store} now")
    job_id = ended.out.decode().strip()
    assert job(store, job_id)["state"] == "pending"
    with HostProgram(store):
        logs = run("job", "logs", "--store", str(store), job_id)
        assert (logs.code, logs.out) == (0, b"done\n")
        becomes(store, job_id, "succeeded")


def test_logs_are_followed_live(store: Path, tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    command = f"echo first; while [ ! -e {gate} ]; do sleep 0.02; done; echo last; exit 5"
    with HostProgram(store):
        job_id = detached(store, command)
        following = subprocess.Popen(
            [*HODEI, "job", "logs", "--store", str(store), job_id[:8]], stdout=subprocess.PIPE
        )
        assert following.stdout is not None
        assert following.stdout.readline() == b"first\n"
        now = run("job", "logs", "--no-follow", "--store", str(store), job_id)
        assert (now.code, now.out) == (0, b"first\n")
        gate.touch()
        assert following.communicate(timeout=TIMEOUT)[0] == b"last\n"
        assert following.returncode == 0


def test_ctrl_c_leaves_a_followed_job_alone(store: Path) -> None:
    with HostProgram(store):
        job_id = detached(store, GRACEFUL)
        following = subprocess.Popen(
            [*HODEI, "job", "logs", "--store", str(store), job_id],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        assert following.stdout is not None
        assert following.stdout.readline() == b"ready\n"
        following.send_signal(signal.SIGINT)
        assert following.communicate(timeout=TIMEOUT)[1].strip() == b""
        assert following.returncode == 130
        assert job(store, job_id)["state"] == "running"
        assert run("job", "cancel", "--store", str(store), job_id).code == 0


def test_a_running_job_is_cancelled_and_its_processes_are_gone(store: Path) -> None:
    with HostProgram(store):
        job_id = detached(store, "--env", f"{MARK}={store}", GRACEFUL)
        becomes(store, job_id, "running")
        until(lambda: bool(processes_with(MARK, str(store))))
        ended = run("job", "cancel", "--store", str(store), "--reason", "too late", job_id[:10])
        assert processes_with(MARK, str(store)) == []
        assert (ended.code, ended.out) == (0, f"{job_id} CANCELLED\n".encode())
        assert job(store, job_id)["message"] == "too late"
        again = run("job", "cancel", "--store", str(store), "--format", "json", job_id)
        assert (again.code, again.objects[0]["state"]) == (0, "cancelled")


def test_cancelling_several_tells_of_each(store: Path) -> None:
    with HostProgram(store):
        over = detached(store, "true")
        becomes(store, over, "succeeded")
        first, second = (detached(store, "--delay", "1h", "true") for _ in range(2))
        ended = run("job", "cancel", "--store", str(store), first, over, "zzzz", second)
        assert ended.code == 1
        assert sorted(ended.out.decode().splitlines()) == sorted(
            [f"{first} CANCELLED", f"{over} SUCCEEDED", f"{second} CANCELLED"]
        )
        assert f"hodei: job {over} had ended before: SUCCEEDED\n" in ended.err
        assert "hodei: no job 'zzzz'\n" in ended.err


def test_a_job_is_retried(store: Path) -> None:
    with HostProgram(store):
        assert run("run", "--store", str(store), "--name", "n", "echo hello; exit 3").code == 3
        (fields,) = run("job", "list", "--store", str(store), "--format", "json").objects
        ended = run("job", "retry", "--store", str(store), fields["job_id"])
        new = ended.out.decode().strip()
        becomes(store, new, "failed")
        assert job(store, new)["retried_from"] == fields["job_id"]
        assert run("job", "logs", "--store", str(store), new).out == b"hello\n"


def test_workers_and_slots_of_a_host_are_shown(store: Path) -> None:
    with HostProgram(store, "--slots", "3"):
        job_id = detached(store, GRACEFUL)
        becomes(store, job_id, "running")
        (worker,) = run("workers", "--store", str(store), "--format", "json").objects
        assert (worker["type"], worker["provider"], worker["slots"]) == ("worker", "local", 3)
        assert (worker["slots_used"], worker["jobs"]) == (1, [job_id])
        assert job_id.encode() in run("workers", "--store", str(store)).out
        (counts,) = run("stats", "--store", str(store), "--format", "json").objects
        assert (counts["hosts"], counts["slots_used"], counts["slots_total"]) == (1, 1, 3)
        assert counts["jobs"]["running"] == 1
        text = run("job", "explain", "--store", str(store), job_id).out.decode()
        assert text.startswith(f"It is RUNNING: attempt 1 on worker {worker['worker_id']}")


def test_ctrl_c_of_a_run_cancels_the_job_on_the_host(store: Path) -> None:
    with HostProgram(store), Program("run", "--store", str(store), GRACEFUL) as program:
        assert program.line() == b"ready\n"
        program.send(signal.SIGINT)
        ended = program.end()
        assert (ended.code, ended.out) == (130, b"bye\n")
        assert program.left() == []


def test_a_reader_that_leaves_cancels_the_job_on_the_host(store: Path) -> None:
    with HostProgram(store), Program("run", "--store", str(store), "yes") as program:
        assert program.line() == b"y\n"
        program.stdout.close()
        assert program.process.wait(TIMEOUT) == 141
        assert program.left() == []


def test_a_host_that_was_killed_is_not_waited_for(store: Path) -> None:
    with HostProgram(store) as host:
        lost = detached(store, GRACEFUL)
        becomes(store, lost, "running")
        host.send(signal.SIGKILL)
        host.end()
    ended = run("run", "--store", str(store), "echo hello")
    assert (ended.code, ended.out, ended.err) == (0, b"hello\n", "")
    assert run("stats", "--store", str(store), "--format", "json").objects[0]["hosts"] == 0


def test_what_a_killed_host_had_is_not_shown_as_alive(store: Path) -> None:
    with HostProgram(store) as host:
        lost = detached(store, GRACEFUL)
        becomes(store, lost, "running")
        assert run("workers", "--store", str(store), "--format", "json").objects
        host.send(signal.SIGKILL)
        host.end()
    assert run("workers", "--store", str(store), "--format", "json").objects == []
    (counts,) = run("stats", "--store", str(store), "--format", "json").objects
    assert (counts["slots_used"], counts["slots_total"]) == (0, 0)
    text = run("job", "explain", "--store", str(store), lost).out.decode()
    assert "the worker is lost (its host is dead)" in text
    waiting = detached(store, "--delay", "1h", "true")
    text = run("job", "explain", "--store", str(store), waiting).out.decode()
    assert "worker" not in text
    following = subprocess.Popen(
        [*HODEI, "job", "logs", "--store", str(store), lost],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert following.stderr is not None
    said = following.stderr.readline().decode()
    assert said == f"hodei: no host dispatches from {store} now: the log goes on when one does\n"
    with HostProgram(store):
        assert following.communicate(timeout=TIMEOUT)[0].startswith(b"ready\n")
    assert following.returncode == 0


def test_what_a_closing_host_still_runs_is_not_said_to_be_left(store: Path, tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    command = f"echo ready; while [ ! -e {gate} ]; do sleep 0.02; done"
    with HostProgram(store, "--slots", "2") as host:
        job_id = detached(store, command)
        becomes(store, job_id, "running")
        host.send(signal.SIGTERM)
        host.wait_for("waiting for those that run")
        waiting = detached(store, "true")
        following = subprocess.Popen(
            [*HODEI, "job", "logs", "--store", str(store), waiting],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        held = subprocess.Popen(
            [*HODEI, "job", "logs", "--store", str(store), job_id],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        assert following.stderr is not None
        # Of what waits it is said; by then it would have been of what runs as well.
        assert b"no host dispatches" in following.stderr.readline()
        text = run("job", "explain", "--store", str(store), waiting).out.decode()
        assert "has room" not in text
        gate.touch()
        assert held.communicate(timeout=TIMEOUT) == (b"ready\n", b"")
        assert host.end() == 0
        following.kill()
        following.communicate(timeout=TIMEOUT)


def test_a_run_says_that_its_job_is_held_by_a_host_that_is_stopped(
    store: Path, tmp_path: Path
) -> None:
    gate = tmp_path / "gate"
    command = f"echo ready; while [ ! -e {gate} ]; do sleep 0.02; done"
    options = ("--store", str(store), "--max-attempts", "2", "--backoff", "0")
    with HostProgram(store) as host, Program("run", *options, command) as program:
        assert program.line() == b"ready\n"
        host.send(signal.SIGSTOP)
        assert program.error_line().endswith("any more: this program does\n")
        said = program.error_line()
        assert "It is RUNNING: attempt 1" in said
        assert "its host is dead, and " in said
        gate.touch()
        host.send(signal.SIGCONT)
        assert program.end().code == 0


def test_the_jobs_of_a_run_that_leaves_go_on_with_the_next(store: Path, tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    command = f"echo first; while [ ! -e {gate} ]; do sleep 0.02; done"
    with (
        Program("run", "--store", str(store), command) as first,
        Program("run", "--store", str(store), "--delay", "3", "echo second") as second,
    ):
        assert first.line() == b"first\n"
        gate.touch()
        assert first.end().code == 0
        ended = second.end()
    assert (ended.code, ended.out) == (0, b"second\n")


def test_a_cancel_that_no_host_can_carry_out_does_not_wait_for_ever(store: Path) -> None:
    with HostProgram(store) as host:
        job_id = detached(store, "--env", f"{MARK}={store}", GRACEFUL)
        becomes(store, job_id, "running")
        host.send(signal.SIGKILL)
        host.end()
    ended = run("job", "cancel", "--store", str(store), job_id)
    assert (ended.code, ended.out) == (1, b"")
    assert f"hodei: job {job_id} is not ended yet: no host dispatches from {store}" in ended.err
    assert processes_with(MARK, str(store)) == []
    with HostProgram(store):
        becomes(store, job_id, "cancelled")
