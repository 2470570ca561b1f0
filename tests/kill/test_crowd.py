"""Two hosts and five clients use one file at the same time."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from tests.kill import image, ledger
from tests.kill.blows import ROOT, marked
from tests.kill.crowd_program import JOBS
from tests.kill.plan import RUN_MARK

HOSTS, CLIENTS = 2, 5
SECONDS = 90.0


def test_two_hosts_share_what_five_clients_submit_and_start_nothing_twice(tmp_path: Path) -> None:
    with ExitStack() as running:
        hosts = [running.enter_context(member(tmp_path, "host", n)) for n in range(HOSTS)]
        clients = [running.enter_context(member(tmp_path, "client", n)) for n in range(CLIENTS)]
        until_all_are_open(tmp_path, hosts + clients)
        for client in clients:
            close_stdin(client)
        assert [ended_well(client, tmp_path) for client in clients] == [True] * CLIENTS
        for host in hosts:
            close_stdin(host)
        assert [ended_well(host, tmp_path) for host in hosts] == [True] * HOSTS
    now, told = image.take(tmp_path / "jobs.db"), ledger.read(tmp_path / "ledger")
    assert [*image.problems(now), *told.problems] == []
    assert len(told.accepted) == HOSTS * 200 == JOBS * CLIENTS
    assert set(told.accepted) == set(now.jobs)
    assert {job["state"] for job in now.jobs.values()} == {"succeeded"}
    assert told.starts == Counter((id_, 1) for id_ in now.jobs)
    assert len({job["attempts"][0]["host"] for job in now.jobs.values()}) == HOSTS
    assert (now.hosts, now.workers, marked(tmp_path.name)) == ((), {}, {})


@contextmanager
def member(folder: Path, role: str, number: int) -> Iterator[subprocess.Popen[bytes]]:
    with (folder / "errors").open("ab") as errors:
        process = subprocess.Popen(
            [sys.executable, "-m", "tests.kill.crowd_program", str(folder), role, str(number)],
            cwd=ROOT,
            env=os.environ | {RUN_MARK: folder.name, "PYTHONPATH": f"{ROOT / 'src'}:{ROOT}"},
            stdin=subprocess.PIPE,
            stdout=errors,
            stderr=errors,
        )
    try:
        yield process
    finally:
        process.kill()
        process.wait()
        close_stdin(process)


def until_all_are_open(folder: Path, members: list[subprocess.Popen[bytes]]) -> None:
    deadline = time.monotonic() + SECONDS
    lines = folder / "ledger"
    while not lines.exists() or lines.read_text().splitlines().count("open") < len(members):
        assert all(process.poll() is None for process in members), (folder / "errors").read_text()
        assert time.monotonic() < deadline
        time.sleep(0.01)


def close_stdin(process: subprocess.Popen[bytes]) -> None:
    assert process.stdin is not None
    process.stdin.close()


def ended_well(process: subprocess.Popen[bytes], folder: Path) -> bool:
    code = process.wait(SECONDS)
    assert code == 0, (folder / "errors").read_text()
    return True
