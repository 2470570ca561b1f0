"""Shows a test in virtual time: hours of delays, timeouts and retries, on one schedule a seed.

`simulated` lets time go on to the next deadline whenever every task waits. The seed decides all
that is left to chance, so the same seed shows the same history again. `pytest` runs the test in
this file as it stands; `pytest --hodei-seeds 100` runs it with a hundred seeds.

Run it:     python examples/virtual_time.py

It prints:  what became of four uploads in an hour and a half of virtual time, and that a second
            run with the same seed is the same to the last event, while another seed is not.
"""

import anyio

from hodei_core import Backoff, Execution, Hodei, JobFinished, JobResult, Output, RetryPolicy
from hodei_core.backends.memory import MemoryProvider
from hodei_core.testing import capture_events, run_simulated, simulated, simulated_clock

Uploads = dict[str, JobResult]


async def upload(hodei: Hodei, names: list[str]) -> Uploads:
    """Upload files an hour from now, each at most 3 times. This is the code under test."""
    policy = RetryPolicy(max_attempts=3, backoff=Backoff(first=600, jitter=0.5))
    jobs = {
        name: await hodei.submit(["upload", name], delay=3600, timeout=300, retry=policy)
        for name in names
    }
    return {name: await job for name, job in jobs.items()}


async def fake_upload(execution: Execution, output: Output) -> int:
    """Stand in for the program: one upload fails at first, one never ends."""
    name = execution.spec.command[1]
    await output.write(f"{name}: attempt {execution.attempt}\n")
    if name == "stuck":
        await anyio.sleep_forever()
    await anyio.sleep(10)
    return 1 if name == "flaky" and execution.attempt == 1 else 0


async def history() -> tuple[Uploads, list[str]]:
    async with Hodei(providers=[MemoryProvider(fake_upload, slots=2)]) as hodei:
        async with capture_events(hodei) as captured:
            uploads = await upload(hodei, ["a", "b", "flaky", "stuck"])
            assert len(captured.of(JobFinished)) == 4
    return uploads, [repr(event) for event in captured]


@simulated(seed=7)
async def test_every_upload_comes_to_an_end() -> None:
    began = simulated_clock().now()
    uploads, _ = await history()
    states = {name: result.state.name for name, result in uploads.items()}
    assert states == {
        "a": "SUCCEEDED",
        "b": "SUCCEEDED",
        "flaky": "SUCCEEDED",
        "stuck": "TIMED_OUT",
    }
    assert (simulated_clock().now() - began).total_seconds() > 3600


def main() -> None:
    test_every_upload_comes_to_an_end()
    uploads, events = run_simulated(history, seed=7)
    for name, result in uploads.items():
        minutes = (result.finished_at - result.submitted_at).total_seconds() / 60
        tries = len(result.attempts)
        print(f"{name}: {result.state.name}, {tries} attempts, after {minutes:.1f} min")
    print(f"seed 7 again is the same: {run_simulated(history, seed=7)[1] == events}")
    print(f"seed 8 is another:        {run_simulated(history, seed=8)[1] != events}")


if __name__ == "__main__":
    main()
