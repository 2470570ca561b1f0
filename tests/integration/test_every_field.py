"""Each field of a job's spec does something: a test that fails when the field is ignored."""

from __future__ import annotations

import sys
from collections.abc import Awaitable, Callable
from datetime import timedelta
from pathlib import Path

import anyio
import attrs
import pytest

from hodei_core import (
    Backoff,
    Hodei,
    JobSpec,
    JobState,
    KeyConflictError,
    Reason,
    Resources,
    RetryPolicy,
)
from hodei_core.backends.local import LocalProvider

LIMIT = 30.0


async def command(hodei: Hodei, _path: Path) -> None:
    assert (await hodei.run("echo a b")).stdout == "a b\n"
    assert (await hodei.run(["echo", "a  b;c"])).stdout == "a  b;c\n"


async def name(hodei: Hodei, _path: Path) -> None:
    result = await hodei.run("true", name="mine")
    assert result.name == "mine"
    assert [job.id for job in await hodei.list_jobs(name="mine")] == [result.job_id]


async def env(hodei: Hodei, _path: Path) -> None:
    result = await hodei.run("echo $A-$HODEI_ATTEMPT-$HODEI_JOB_ID", env={"A": "x"})
    assert result.stdout == f"x-1-{result.job_id}\n"


async def cwd(hodei: Hodei, path: Path) -> None:
    (path / "sub").mkdir()
    assert (await hodei.run("pwd")).stdout == f"{path}\n"
    assert (await hodei.run("pwd", cwd="sub")).stdout == f"{path}/sub\n"
    assert (await hodei.run("pwd", cwd=path / "sub")).stdout == f"{path}/sub\n"


async def stdin(hodei: Hodei, _path: Path) -> None:
    assert (await hodei.run("cat", stdin=b"in\n")).stdout == "in\n"
    assert (await hodei.run("cat")).stdout == ""


async def shell(hodei: Hodei, _path: Path) -> None:
    result = await hodei.run("print(6 * 7)", shell=(sys.executable, "-c"))
    assert result.stdout == "42\n"
    assert (await hodei.run("false; echo no", shell=("sh", "-ec"))).stdout == ""


async def image(hodei: Hodei, _path: Path) -> None:
    assert (await hodei.run("true", image="alpine")).reason is Reason.UNSCHEDULABLE


async def resources(hodei: Hodei, _path: Path) -> None:
    first = await hodei.submit("sleep 300", resources=Resources(cpus=2))
    second = await hodei.submit("true")
    while (await first.snapshot()).state is not JobState.RUNNING:
        await anyio.lowlevel.checkpoint()
    assert (await second.snapshot()).state is JobState.PENDING
    await first.cancel()
    assert (await second.wait()).ok
    assert (await hodei.run("true", resources=Resources(cpus=99))).reason is Reason.UNSCHEDULABLE


async def timeout(hodei: Hodei, _path: Path) -> None:
    assert (await hodei.run("sleep 300", timeout=0.1)).state is JobState.TIMED_OUT


async def pending_timeout(hodei: Hodei, _path: Path) -> None:
    blocker = await hodei.submit("sleep 300", resources=Resources(cpus=2))
    result = await hodei.run("true", pending_timeout=0.1)
    assert result.reason is Reason.PENDING_TIMEOUT
    await blocker.cancel()


async def retry(hodei: Hodei, _path: Path) -> None:
    policy = RetryPolicy(max_attempts=3, backoff=Backoff(first=0.01))
    result = await hodei.run('[ "$HODEI_ATTEMPT" = 3 ]', retry=policy)
    assert result.ok
    assert len(result.attempts) == 3


async def priority(hodei: Hodei, path: Path) -> None:
    await hodei.drain()
    for i, level in enumerate((0, 9, 0, 5)):
        whole = Resources(cpus=2)
        await hodei.submit(f"echo {i} >>{path}/order", priority=level, resources=whole)
    await hodei.resume()
    await hodei.join()
    assert (path / "order").read_text().split() == ["1", "3", "0", "2"]


async def delay(hodei: Hodei, _path: Path) -> None:
    result = await hodei.run("true", delay=0.2)
    assert result.started_at is not None
    assert result.started_at - result.submitted_at >= timedelta(seconds=0.2)


async def labels(hodei: Hodei, _path: Path) -> None:
    result = await hodei.run("true", labels={"team": "a"})
    await hodei.run("true", labels={"team": "b"})
    found = await hodei.list_jobs(labels={"team": "a"})
    assert [job.id for job in found] == [result.job_id]


async def requires(hodei: Hodei, _path: Path) -> None:
    assert (await hodei.run("true", requires={"disk": "fast"})).ok
    assert (await hodei.run("true", requires={"disk": "slow"})).reason is Reason.UNSCHEDULABLE


async def provider(hodei: Hodei, _path: Path) -> None:
    assert (await hodei.run("true", provider="local")).ok
    assert (await hodei.run("true", provider="docker")).reason is Reason.UNSCHEDULABLE


async def prefers(hodei: Hodei, _path: Path) -> None:
    assert (await hodei.run("true", prefers="local")).ok
    assert (await hodei.run("true", prefers="docker")).ok


async def key(hodei: Hodei, path: Path) -> None:
    first = await hodei.submit(f"echo x >>{path}/runs", key="once")
    assert await hodei.submit(f"echo x >>{path}/runs", key="once") == first
    await first.wait()
    assert (path / "runs").read_text() == "x\n"
    with pytest.raises(KeyConflictError):
        await hodei.submit("true", key="once")


async def grace(hodei: Hodei, _path: Path) -> None:
    stubborn = "trap '' TERM; echo up; while :; do sleep 0.05; done"
    job = await hodei.submit(stubborn, grace=0.2)
    async for _ in job.logs():
        break
    with anyio.fail_after(4):
        assert (await job.cancel()).exit_code == 137
    polite = await hodei.submit("trap 'sleep 0.5; exit 9' TERM; echo up; sleep 9 & wait")
    async for _ in polite.logs():
        break
    assert (await polite.cancel()).exit_code == 9


CHECKS: dict[str, Callable[[Hodei, Path], Awaitable[None]]] = {
    check.__name__: check
    for check in (
        command,
        name,
        env,
        cwd,
        stdin,
        shell,
        image,
        resources,
        timeout,
        pending_timeout,
        retry,
        priority,
        delay,
        labels,
        requires,
        provider,
        prefers,
        key,
        grace,
    )
}


def test_no_field_is_left_out() -> None:
    assert list(CHECKS) == [field.name for field in attrs.fields(JobSpec)]


@pytest.mark.parametrize("field", CHECKS)
async def test_the_field_is_not_ignored(field: str, tmp_path: Path) -> None:
    local = LocalProvider(slots=2, cwd=str(tmp_path), labels={"disk": "fast"})
    with anyio.fail_after(LIMIT):
        async with Hodei(providers=[local]) as hodei:
            await CHECKS[field](hodei, tmp_path)
