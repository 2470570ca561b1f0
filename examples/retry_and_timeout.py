"""Shows what may go wrong with a job: it fails and is tried again, it takes too long, it fails.

Run it:     python examples/retry_and_timeout.py

It prints:  how each attempt of a flaky job ended (the third succeeds), that a slow job was ended
            at its timeout, and the error that `check=True` raises for a job that failed.
"""

import anyio

from hodei_core import Backoff, Hodei, JobFailedError, RetryPolicy


async def main() -> None:
    async with Hodei() as hodei:
        flaky = await hodei.run(
            'test "$HODEI_ATTEMPT" -eq 3',  # each attempt knows its number
            retry=RetryPolicy(max_attempts=5, backoff=Backoff(first=0.1)),
        )
        for attempt in flaky.attempts:
            print(f"attempt {attempt.number}: exit code {attempt.exit_code}")
        print(f"flaky: {flaky.state.name}")

        slow = await hodei.run("echo working; sleep 60", timeout=0.5)
        print(f"slow: {slow.state.name}, it had printed {slow.stdout!r}")

        try:
            await hodei.run("echo 'no such host' >&2; exit 7", check=True)
        except JobFailedError as error:
            failed = error.result
        assert failed is not None
        print(f"error: exit code {failed.exit_code}, {failed.stderr!r}")


if __name__ == "__main__":
    anyio.run(main)
