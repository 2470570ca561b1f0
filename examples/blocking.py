"""Shows the library in a plain script, without `async`: the blocking twin.

Run it:     python examples/blocking.py

It prints:  the output of a command; the lines of a job while it runs, half a second apart; how
            many of three jobs, submitted by three threads, succeeded; and the result of a job,
            read after all was closed.
"""

from concurrent.futures import ThreadPoolExecutor

from hodei_core.blocking import Hodei


def main() -> None:
    with Hodei() as hodei:
        print(hodei.run("echo hello", check=True).stdout, end="")

        job = hodei.submit("for n in 1 2 3; do echo line $n; sleep 0.5; done")
        for entry in job.logs():  # live, while the job runs
            print(entry.text, flush=True)

        with ThreadPoolExecutor() as threads:
            results = list(threads.map(hodei.run, ["true", "true", "false"]))
        print(f"succeeded: {sum(result.ok for result in results)} of {len(results)}")

    result = job.wait()  # a memory store still answers
    print(f"{result.state.name}, {len(result.stdout.splitlines())} lines")


if __name__ == "__main__":
    main()
