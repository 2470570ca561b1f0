"""Ctrl-C at each line of ours that the main thread runs, one after the other."""

from __future__ import annotations

import pytest

from tests.blocking.programs import run


@pytest.mark.slow
def test_ctrl_c_at_any_line_leaves_nothing_running() -> None:
    """The one gap is that of every context manager: the first lines of its exit.

    There the program's end closes what is open.
    """
    printed = run(
        """
        import sys
        from pathlib import Path
        import hodei_core.blocking
        FOLDER = str(Path(hodei_core.blocking.__file__).parent)
        live = 0
        async def handler(execution, output):
            global live
            live += 1
            try:
                await output.write("begun\\n")
                if execution.spec.command != "short":
                    await anyio.sleep_forever()
            finally:
                live -= 1

        def scenario():
            global hodei
            with memory(handler) as hodei, hodei.events(JobFinished) as events:
                job = begun(hodei.submit("long"))
                hodei.run("short")
                job.cancel()
                next(events)
            job.wait()

        def trace(frame, event, argument):
            global left, where
            if not frame.f_code.co_filename.startswith(FOLDER):
                return None
            if event == "line":
                left -= 1
                if left == 0:
                    where = frame
                    sys.settrace(None)
                    signal.raise_signal(signal.SIGINT)
            return trace

        def within(frame):
            while frame.f_code.co_name not in ("__exit__", "scenario"):
                frame = frame.f_back
            return frame.f_code.co_name

        gaps = []
        wanted = 1
        while True:
            left, where, hodei = wanted, None, None
            sys.settrace(trace)
            try:
                scenario()
            except KeyboardInterrupt:
                pass
            finally:
                sys.settrace(None)
            if where is None:
                break
            if "open" in repr(hodei):
                gaps.append((within(where), where.f_code.co_name, where.f_lineno))
                atexit._run_exitfuncs()
            asked_at = time.monotonic()
            while threading.active_count() > 1:
                assert time.monotonic() - asked_at < 5, (where.f_code, where.f_lineno)
            assert live == 0, (where.f_code, where.f_lineno)
            wanted += 1
        say(wanted, *{name for name, *_ in gaps}, len(gaps))
        """
    )
    lines, *gaps, count = printed.split()
    assert int(lines) > 300
    assert set(gaps) <= {"__exit__"}
    assert int(count) < 4
