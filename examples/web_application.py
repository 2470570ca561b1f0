"""Shows the shape of a web application: opened by its start hook, closed by its stop hook.

Any framework has such hooks (`lifespan`, `on_startup`); here a server of the standard library
stands in for it, to keep the example to one file. A request runs a job, its answer streams
the job's output while it runs.

Run it:     python examples/web_application.py

It prints:  the answers to two requests, the second of a job that fails; then that the stop hook
            has ended a job that was still running.
"""

import asyncio

from hodei_core import Hodei, JobHandle, JobState


class Application:
    """Owns the one `Hodei` of this process, from its start hook to its stop hook."""

    def __init__(self) -> None:
        self.hodei: Hodei | None = None

    async def start(self) -> None:
        """Open; the framework calls this before the first request."""
        # A normal close waits for what runs; a server that is told to stop had better not.
        self.hodei = await Hodei(shutdown_timeout=0).open()

    async def stop(self) -> None:
        """Close; the framework calls this after the last request."""
        assert self.hodei is not None
        await self.hodei.aclose()

    async def submit(self, command: str) -> JobHandle:
        """Accept a job of a user."""
        assert self.hodei is not None
        return await self.hodei.submit(command, labels={"origin": "web"}, timeout=60)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Run the line that was sent; answer with its output, line by line, and its end."""
        command = (await reader.readline()).decode().strip()
        job = await self.submit(command)
        async for entry in job.logs():
            writer.write(entry.data)
            await writer.drain()
        result = await job
        writer.write(f"{result.state.name} {result.exit_code}\n".encode())
        writer.close()
        await writer.wait_closed()


async def request(port: int, command: str) -> str:
    """Ask the server to run a command; return its answer."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(f"{command}\n".encode())
    answer = await reader.read()
    writer.close()
    await writer.wait_closed()
    return answer.decode()


async def main() -> None:
    application = Application()
    await application.start()
    server = await asyncio.start_server(application.serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]

    print(await request(port, "echo hello; echo web"), end="")
    print(await request(port, "exit 3"), end="")

    job = await application.submit("sleep 600")
    server.close()
    await server.wait_closed()
    await application.stop()
    state = (await job.snapshot()).state  # a memory store answers after it was closed
    assert state is JobState.FAILED
    print(f"stopped; the job that was running ended {state.name}")


if __name__ == "__main__":
    asyncio.run(main())
