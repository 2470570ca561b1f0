from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hodei_core.logs import (
    MAX_LINE_BYTES,
    LineSplitter,
    LogEntry,
    LogSegment,
    LogSource,
    split_lines,
)
from tests.values.helpers import JOB, NOW, assert_frozen, deterministic, pickled

Piece = tuple[bytes, int, bool]

WILD = [b"\n", b"\r", b"\r\n", b"\0", b"\xe2\x80\xa8", b"\xff", b"\x85", b"\x0b", b"\x1b[31m", b"a"]
"""Newlines, and what other splitters take for one; half a character, NUL, ANSI."""

short_text = st.lists(st.sampled_from(WILD) | st.binary(max_size=5), max_size=40).map(b"".join)
runs = st.tuples(st.sampled_from([b"x", b"y\n", b"\n"]), st.integers(0, 3 * MAX_LINE_BYTES))
near = st.integers(MAX_LINE_BYTES - 2, MAX_LINE_BYTES + 2).map(lambda n: b"z" * n)
long_text = st.lists(runs.map(lambda r: r[0] * r[1]) | near | short_text, max_size=4).map(b"".join)


def cut(data: bytes, places: list[float]) -> list[bytes]:
    """Return the chunks that cuts at these parts of the data leave."""
    ends = sorted(int(place * len(data)) for place in places)
    starts = [0, *ends]
    return [data[a:b] for a, b in zip(starts, [*ends, len(data)], strict=True)]


def feed(chunks: list[bytes]) -> list[Piece]:
    splitter = LineSplitter()
    pieces = [piece for chunk in chunks for piece in splitter.feed(chunk)]
    return [*pieces, *splitter.finish()]


def entries_of(pieces: list[Piece]) -> list[tuple[bytes, bool]]:
    return [(line, partial) for data, _, partial in pieces for line in data_lines(data)]


def data_lines(data: bytes) -> list[bytes]:
    """Split after each newline, in the plainest way there is."""
    lines, start = [], 0
    for at, byte in enumerate(data):
        if byte == 10:
            lines.append(data[start : at + 1])
            start = at + 1
    return [*lines, data[start:]] if start < len(data) else lines


def expected(data: bytes) -> list[tuple[bytes, bool]]:
    """Return the entries that a stream is to become, however it was cut."""
    entries = []
    for whole in data_lines(data):
        line = whole
        while len(line) > MAX_LINE_BYTES:
            entries.append((line[:MAX_LINE_BYTES], True))
            line = line[MAX_LINE_BYTES:]
        entries.append((line, False))
    return entries


def check(data: bytes, chunks: list[bytes]) -> None:
    pieces = feed(chunks)
    assert b"".join(piece for piece, _, _ in pieces) == data
    for at, (piece, count, partial) in enumerate(pieces):
        lines = data_lines(piece)
        assert len(lines) == count >= 1
        assert all(len(line) <= MAX_LINE_BYTES for line in lines)
        if partial:
            assert count == 1
            assert len(piece) == MAX_LINE_BYTES
            assert not piece.endswith(b"\n")
            assert at + 1 < len(pieces)
        elif at + 1 < len(pieces):
            assert piece.endswith(b"\n")
    assert entries_of(pieces) == expected(data)


@deterministic
@given(short_text, st.lists(st.floats(0, 1), max_size=12))
def test_any_stream_becomes_the_same_entries_however_it_is_cut(
    data: bytes, places: list[float]
) -> None:
    check(data, cut(data, places))


@settings(deterministic, max_examples=25)
@given(long_text, st.lists(st.floats(0, 1), max_size=8))
def test_any_stream_of_long_lines_becomes_the_same_entries_however_it_is_cut(
    data: bytes, places: list[float]
) -> None:
    check(data, cut(data, places))


@pytest.mark.parametrize(
    ("length", "end", "sizes"),
    [
        (MAX_LINE_BYTES - 1, b"\n", [MAX_LINE_BYTES]),
        (MAX_LINE_BYTES, b"\n", [MAX_LINE_BYTES, 1]),
        (MAX_LINE_BYTES, b"", [MAX_LINE_BYTES]),
        (MAX_LINE_BYTES + 1, b"", [MAX_LINE_BYTES, 1]),
        (2 * MAX_LINE_BYTES - 1, b"\n", [MAX_LINE_BYTES, MAX_LINE_BYTES]),
        (2 * MAX_LINE_BYTES, b"", [MAX_LINE_BYTES, MAX_LINE_BYTES]),
    ],
)
@pytest.mark.parametrize("step", [1000, MAX_LINE_BYTES - 1, MAX_LINE_BYTES, 10 * MAX_LINE_BYTES])
def test_a_line_at_the_limit_is_cut_only_if_it_goes_on(
    length: int, end: bytes, sizes: list[int], step: int
) -> None:
    data = b"x" * length + end
    pieces = feed([data[at : at + step] for at in range(0, len(data), step)])
    assert [len(piece) for piece, _, _ in pieces] == sizes
    assert [partial for _, _, partial in pieces] == [True] * (len(sizes) - 1) + [False]


@pytest.mark.parametrize("step", [4096, 65_536, 100_000, 10 * 1024 * 1024])
def test_ten_mebibytes_without_a_newline_are_160_entries(step: int) -> None:
    data = bytes(10 * 1024 * 1024)
    pieces = feed([data[at : at + step] for at in range(0, len(data), step)])
    assert [len(piece) for piece, _, _ in pieces] == [MAX_LINE_BYTES] * 160
    assert [partial for _, _, partial in pieces] == [True] * 159 + [False]


def test_lines_that_are_complete_come_at_once_and_the_rest_when_it_is() -> None:
    splitter = LineSplitter()
    assert splitter.feed(b"one\ntwo\nthr") == [(b"one\ntwo\n", 2, False)]
    assert splitter.feed(b"e") == []
    assert splitter.feed(b"") == []
    assert splitter.feed(b"e\n") == [(b"three\n", 1, False)]
    assert splitter.finish() == []


def test_a_line_that_is_too_long_comes_before_it_is_complete() -> None:
    splitter = LineSplitter()
    assert splitter.feed(b"x" * MAX_LINE_BYTES) == []
    assert splitter.feed(b"y") == [(b"x" * MAX_LINE_BYTES, 1, True)]
    assert splitter.feed(b"\n") == [(b"y\n", 1, False)]


def test_an_unfinished_line_comes_once_at_the_end() -> None:
    splitter = LineSplitter()
    assert splitter.feed(b"end") == []
    assert splitter.finish() == [(b"end", 1, False)]
    assert splitter.finish() == []


def test_one_byte_at_a_time_is_as_good_as_all_at_once() -> None:
    data = b"".join(WILD) * 3
    assert entries_of(feed([data[at : at + 1] for at in range(len(data))])) == expected(data)


@deterministic
@given(short_text)
def test_lines_are_split_at_newlines_and_nowhere_else(data: bytes) -> None:
    assert split_lines(data) == data_lines(data)


@pytest.mark.parametrize("other", [b"\r", "\u2028".encode(), b"\x0b", b"\x0c", b"\x85", b"\x1c"])
def test_nothing_but_a_newline_ends_a_line(other: bytes) -> None:
    data = b"a" + other + b"b\n"
    assert split_lines(data) == [data]
    assert feed([data]) == [(data, 1, False)]


def segment(data: bytes, **fields: Any) -> LogSegment:
    values: dict[str, Any] = {
        "attempt": 2,
        "first_seq": 11,
        "count": len(data_lines(data)),
        "at": NOW,
        "source": LogSource.STDERR,
        "data": data,
        **fields,
    }
    return LogSegment(**values)


def entry(seq: int, data: bytes, **fields: Any) -> LogEntry:
    values: dict[str, Any] = {
        "job_id": JOB,
        "attempt": 2,
        "seq": seq,
        "at": NOW,
        "source": LogSource.STDERR,
        "data": data,
        **fields,
    }
    return LogEntry(**values)


def test_the_entries_of_a_segment_are_its_lines_numbered() -> None:
    made = segment(b"a\n\nlast")
    assert made.last_seq == 13
    assert made.entries(JOB) == [entry(11, b"a\n"), entry(12, b"\n"), entry(13, b"last")]
    assert list(made.lines()) == [(11, b"a\n"), (12, b"\n"), (13, b"last")]


@deterministic
@given(
    st.lists(st.sampled_from([b"\n", b"a\n", b"\r\n"]), min_size=1).map(b"".join),
    st.integers(8, 20),
)
def test_only_entries_above_the_number_asked_for_are_given(data: bytes, after: int) -> None:
    made = segment(data)
    expected_entries = [
        entry(seq, line) for seq, line in enumerate(data_lines(data), start=11) if seq > after
    ]
    assert made.entries(JOB, after) == expected_entries
    assert list(made.lines(after)) == [(e.seq, e.data) for e in expected_entries]


def test_a_piece_of_a_line_is_a_partial_entry() -> None:
    data = b"x" * MAX_LINE_BYTES
    assert segment(data, partial=True).entries(JOB) == [entry(11, data, partial=True)]


@pytest.mark.parametrize("count", [1, 3])
def test_a_segment_whose_count_is_wrong_is_refused_when_read(count: int) -> None:
    with pytest.raises(ValueError, match="zip"):
        segment(b"a\nb\n", count=count).entries(JOB)


def test_an_entry_of_a_segment_is_like_one_made_by_hand() -> None:
    (made,) = segment(b"text\n").entries(JOB)
    by_hand = entry(11, b"text\n")
    assert type(made) is LogEntry
    assert made == by_hand
    assert hash(made) == hash(by_hand)
    assert repr(made) == repr(by_hand)
    assert pickled(made) == by_hand
    assert hash(pickled(made)) == hash(by_hand)
    assert_frozen(made)
    assert_frozen(by_hand)
    assert not hasattr(made, "__dict__")


def test_an_entry_is_made_by_name_and_stands_for_itself_unless_told_otherwise() -> None:
    made = entry(1, b"")
    assert made.partial is False
    assert made.lost == 0
    assert entry(9, b"", lost=4).lost == 4
    with pytest.raises(TypeError):
        LogEntry(JOB, 1, 1, NOW, LogSource.STDOUT, b"")  # type: ignore[call-arg]


@pytest.mark.parametrize(
    ("data", "text"),
    [
        (b"", ""),
        (b"\n", ""),
        (b"a\n", "a"),
        (b"a", "a"),
        (b"a\r\n", "a\r"),
        ("é\u2028ü\n".encode(), "é\u2028ü"),
        (b"\xff\xc3\n", "\ufffd\ufffd"),
        (b"nul\0\x1b[0m\n", "nul\0\x1b[0m"),
    ],
)
def test_the_text_is_decoded_without_the_newline(data: bytes, text: str) -> None:
    assert entry(1, data).text == text


def test_the_repr_shows_a_short_line_whole_and_a_long_one_in_part() -> None:
    assert repr(entry(1, b"short\n")) == (
        "LogEntry(job_id='a-job', attempt=2, seq=1, "
        "at=datetime.datetime(2026, 1, 2, 3, 4, 5, tzinfo=datetime.timezone.utc), "
        "source=STDERR, data=b'short\\n', partial=False, lost=0)"
    )
    text = repr(entry(1, b"x" * 65_536))
    assert len(text) < 500
    assert "(65536 bytes)" in text


def test_a_segment_is_a_value_whose_repr_leaves_out_the_data() -> None:
    made = segment(b"bulky\n")
    assert pickled(made) == made
    assert "bulky" not in repr(made)
    assert_frozen(made)
