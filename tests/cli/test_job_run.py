from __future__ import annotations

import os
import re
from datetime import datetime, timedelta

from tests.cli.helpers import JOB_ID, Program, run


def test_it_prints_the_shape_of_the_design() -> None:
    begun = datetime.now()  # noqa: DTZ005 - the stamps are local time
    command = "echo 'Final test job'; sleep 0.3; echo 'Done!'"
    ended = run("job", "run", "--name", "first", "--command", command)
    queued, streaming, first, last, summary = ended.out.decode().splitlines()
    assert re.fullmatch(f"✅ Job queued: {JOB_ID.pattern}", queued)
    assert streaming == "📡 Streaming logs..."
    assert re.fullmatch(r"\d\d:\d\d:\d\d\.\d{3} \[OUT\] Final test job", first)
    assert re.fullmatch(r"\d\d:\d\d:\d\d\.\d{3} \[OUT\] Done!", last)
    assert re.fullmatch(r"📊 SUCCEEDED  exit 0  2 log lines  0\.[3-9]\d s", summary)
    assert (ended.code, ended.err) == (0, "")
    times = [datetime.strptime(line[:12], "%H:%M:%S.%f") for line in (first, last)]  # noqa: DTZ007
    assert timedelta(seconds=0.2) < (times[1] - times[0]) % timedelta(days=1)
    assert (times[0] - begun.replace(year=1900, month=1, day=1)) % timedelta(days=1) < timedelta(
        seconds=30
    )


def test_the_stamps_are_local_time() -> None:
    def hour(zone: str) -> int:
        ended = run("job", "run", "--command", "echo x", env={**os.environ, "TZ": zone})
        return int(ended.out.decode().splitlines()[2][:2])

    assert (hour("XXX-5") - hour("YYY+4")) % 24 in (9, 10)


def test_lines_are_marked_with_their_source() -> None:
    ended = run("job", "run", "--command", "echo out; sleep 0.2; echo err >&2; exit 3")
    lines = ended.out.decode().splitlines()
    assert [line[13:] for line in lines[2:4]] == ["[OUT] out", "[ERR] err"]
    assert lines[4].startswith("📊 FAILED  exit 3  2 log lines  0.")
    assert (ended.code, ended.err) == (3, "")


def test_one_line_is_one_line() -> None:
    assert b"  1 log line  " in run("job", "run", "--command", "printf x").out


def test_a_long_line_counts_as_one() -> None:
    ended = run("job", "run", "--command", "head -c 70000 /dev/zero | tr '\\0' x; echo")
    assert b"  1 log line  " in ended.out


def test_a_job_without_an_exit_code_says_so_and_why() -> None:
    ended = run("job", "run", "--cpus", "4096", "--command", "true")
    assert ended.out.decode().splitlines()[2:] == ["📊 FAILED  no exit code  0 log lines  0.00 s"]
    assert ended.err.startswith("❌ the job cannot run here: ")
    assert ended.code == 125


def test_a_job_that_timed_out_says_so() -> None:
    ended = run("job", "run", "--timeout", "0.2", "--command", "echo x; exec sleep 1000")
    assert "📊 TIMED_OUT  exit 143  1 log line  0." in ended.out.decode()
    assert ended.err == "❌ the job was ended at its timeout of 0.2 s\n"
    assert ended.code == 124


def test_an_output_that_knows_no_emoji_is_no_obstacle() -> None:
    ended = run(
        "job", "run", "--command", "echo é", env={**os.environ, "PYTHONIOENCODING": "ascii"}
    )
    assert ended.code == 0
    assert ended.out.startswith(b"? Job queued: ")
    assert b"[OUT] ?\n" in ended.out


def test_the_command_is_a_text_for_a_shell() -> None:
    assert b"[OUT] 3\n" in run("job", "run", "--command", "echo $((1 + 2))").out


def test_lines_are_shown_while_the_job_runs() -> None:
    with Program("job", "run", "--command", "echo one; sleep 1000") as program:
        lines = [program.line() for _ in range(3)]
        assert lines[2].endswith(b"[OUT] one\n")
        assert program.left()
