from __future__ import annotations

import array
import math
import os
import pickle
import sys
import unicodedata
from collections.abc import Callable, Mapping
from datetime import timedelta
from enum import IntEnum
from pathlib import PurePosixPath
from types import MappingProxyType
from typing import Any

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hodei_core.checks import MAX_SPAN
from hodei_core.errors import InvalidJobError
from hodei_core.resources import Resources
from hodei_core.retry import RetryPolicy
from hodei_core.specs import MAX_STDIN_BYTES, MAX_TEXT_BYTES, JobFields, JobSpec
from hodei_core.states import Reason
from tests.values.helpers import (
    assert_frozen,
    cases,
    deterministic,
    pickled,
    refusal,
    run_python,
    spec,
)

FULL: dict[str, Any] = {
    "command": "make all",
    "name": "build",
    "env": {"CC": "gcc", "A": "two\nlines"},
    "cwd": "/tmp",
    "stdin": b"in\0put",
    "shell": ("bash", "-c"),
    "image": "alpine:3",
    "resources": Resources(2, "1GiB"),
    "timeout": timedelta(seconds=60),
    "pending_timeout": timedelta(seconds=90),
    "retry": RetryPolicy(max_attempts=3, on=[Reason.TIMEOUT]),
    "priority": -5,
    "delay": timedelta(seconds=1),
    "labels": {"team": "a"},
    "requires": {"gpu": "yes", "hodei.zone": "b"},
    "provider": "docker",
    "prefers": "docker",
    "key": "k-1",
    "grace": timedelta(seconds=2),
}
OTHER: dict[str, Any] = {
    "command": ("make", "all"),
    "name": None,
    "env": {"CC": "clang"},
    "cwd": None,
    "stdin": b"",
    "shell": ("sh", "-c"),
    "image": None,
    "resources": Resources(),
    "timeout": None,
    "pending_timeout": None,
    "retry": RetryPolicy(),
    "priority": 0,
    "delay": None,
    "labels": {},
    "requires": {},
    "provider": None,
    "prefers": None,
    "key": None,
    "grace": timedelta(0),
}


# Each place of a spec that holds text: the field, and a spec's fields with the text in it.
ANY_TEXT: list[tuple[str, Callable[[str], dict[str, Any]]]] = [
    ("command", lambda text: {"command": text}),
    ("command", lambda text: {"command": [text]}),
    ("command", lambda text: {"command": ["echo", text]}),
    ("cwd", lambda text: {"cwd": text}),
    ("shell", lambda text: {"shell": [text]}),
    ("shell", lambda text: {"shell": ("sh", text)}),
    ("env", lambda text: {"env": {"NAME": text}}),
]
PLAIN_TEXT: list[tuple[str, Callable[[str], dict[str, Any]]]] = [
    ("name", lambda text: {"name": text}),
    ("image", lambda text: {"image": text}),
    ("provider", lambda text: {"provider": text}),
    ("prefers", lambda text: {"prefers": text}),
    ("key", lambda text: {"key": text}),
    ("env", lambda text: {"env": {text: "value"}}),
    ("labels", lambda text: {"labels": {text: "value"}}),
    ("labels", lambda text: {"labels": {"name": text}}),
    ("requires", lambda text: {"requires": {text: "value"}}),
    ("requires", lambda text: {"requires": {"name": text}}),
]
any_place = pytest.mark.parametrize(
    ("field", "fields"), [pytest.param(*p, id=f"{n}-{p[0]}") for n, p in enumerate(ANY_TEXT)]
)
plain_place = pytest.mark.parametrize(
    ("field", "fields"), [pytest.param(*p, id=f"{n}-{p[0]}") for n, p in enumerate(PLAIN_TEXT)]
)
every_place = pytest.mark.parametrize(
    ("field", "fields"),
    [pytest.param(*p, id=f"{n}-{p[0]}") for n, p in enumerate(ANY_TEXT + PLAIN_TEXT)],
)
Fields = Callable[[str], dict[str, Any]]


class TestFields:
    def test_the_fields_are_those_of_the_contract(self) -> None:
        assert [field.name for field in attrs.fields(JobSpec)] == list(FULL)

    def test_the_input_types_name_every_field_but_the_command(self) -> None:
        names = {field.name for field in attrs.fields(JobSpec)}
        assert set(JobFields.__annotations__) == names - {"command"}
        assert JobFields.__required_keys__ == frozenset()

    def test_the_defaults_are_those_of_the_contract(self) -> None:
        made = JobSpec("true")
        assert attrs.asdict(made, recurse=False) == {
            "command": "true",
            "name": None,
            "env": {},
            "cwd": None,
            "stdin": None,
            "shell": ("sh", "-c"),
            "image": None,
            "resources": Resources(cpus=1, memory=None),
            "timeout": None,
            "pending_timeout": None,
            "retry": RetryPolicy(),
            "priority": 0,
            "delay": None,
            "labels": {},
            "requires": {},
            "provider": None,
            "prefers": None,
            "key": None,
            "grace": timedelta(seconds=5),
        }

    def test_every_field_is_kept(self) -> None:
        assert attrs.asdict(spec(**FULL), recurse=False) == FULL

    @pytest.mark.parametrize("name", [f for f in FULL if f != "command"])
    def test_all_but_the_command_is_given_by_name(self, name: str) -> None:
        (field,) = [f for f in attrs.fields(JobSpec) if f.name == name]
        assert field.kw_only

    def test_a_second_positional_argument_is_a_type_error(self) -> None:
        with pytest.raises(TypeError):
            JobSpec("true", "name")  # type: ignore[call-arg]

    def test_a_field_that_there_is_not_is_a_type_error_that_names_it(self) -> None:
        with pytest.raises(TypeError, match="tiemout"):
            spec(tiemout=3)

    def test_a_spec_needs_a_command(self) -> None:
        with pytest.raises(TypeError, match="command"):
            JobSpec()  # type: ignore[call-arg]

    def test_the_repr_hides_what_may_be_secret_or_bulky(self) -> None:
        text = repr(spec(env={"TOKEN": "s3cret"}, stdin=b"s3cret"))
        assert "s3cret" not in text
        assert "TOKEN" not in text


class TestCommand:
    @pytest.mark.parametrize("command", cases("", " ", "  \t\n", "\u2003", [], (), [""], ["", "x"]))
    def test_an_empty_one_is_refused(self, command: Any) -> None:
        error = refusal(command=command)
        assert error.field == "command"
        assert "empty" in str(error)

    @pytest.mark.parametrize(
        "command",
        cases(
            b"true",
            bytearray(b"true"),
            memoryview(b"true"),
            None,
            3,
            {"true": "x"},
            {"true"},
            iter(["true"]),
            PurePosixPath("true"),
            [b"true"],
            ["sleep", 3],
            ["true", None],
            [["true"]],
            range(3),
        ),
    )
    def test_what_is_neither_text_nor_texts_is_refused(self, command: Any) -> None:
        assert refusal(command=command).field == "command"

    def test_a_text_is_run_by_the_shell_as_its_last_argument(self) -> None:
        text = "echo $HOME; touch 'a b'\n# done"
        assert JobSpec(text).argv() == ("sh", "-c", text)
        shell = ("bash", "-euo", "pipefail", "-c")
        assert JobSpec(text, shell=shell).argv() == (*shell, text)

    def test_an_argument_vector_never_meets_a_shell(self) -> None:
        argv = ("echo", "; touch pwned", "$(touch pwned)", "", "a\nb", "*")
        assert JobSpec(argv).argv() == argv
        assert JobSpec(argv, shell=("bash", "-c")).argv() == argv

    def test_a_sequence_becomes_a_tuple_and_paths_become_texts(self) -> None:
        made = JobSpec(["ls", PurePosixPath("/tmp/x")])
        assert made.command == ("ls", "/tmp/x")

    @pytest.mark.parametrize("shell", cases("sh -c", b"sh", (), ("",), None, {"sh": "-c"}, [1], 3))
    def test_a_shell_is_a_sequence_of_texts(self, shell: Any) -> None:
        assert refusal(shell=shell).field == "shell"


class TestText:
    @every_place
    @pytest.mark.parametrize("text", ["\0", "a\0b", "a\0"])
    def test_a_nul_is_refused_everywhere(self, field: str, fields: Fields, text: str) -> None:
        error = refusal(**fields(text))
        assert error.field == field
        assert str(error).startswith(f"{field}: ")
        assert "NUL" in str(error)
        assert "\0" not in str(error)

    @plain_place
    @pytest.mark.parametrize("character", ["\n", "\r", "\t", "\x1b", "\x7f", "\x85", "\x9f"])
    def test_a_control_character_is_refused_in_what_is_shown_in_one_line(
        self, field: str, fields: Fields, character: str
    ) -> None:
        error = refusal(**fields(f"a{character}b"))
        assert error.field == field
        assert "control character" in str(error)
        assert character not in str(error)

    @any_place
    @pytest.mark.parametrize("text", ["a\nb", "a\tb", "\x1b[31m", "a\r\n"])
    def test_control_characters_are_fine_elsewhere(
        self, field: str, fields: Fields, text: str
    ) -> None:
        assert getattr(spec(**fields(text)), field) is not None

    @every_place
    def test_text_that_cannot_be_encoded_is_refused(self, field: str, fields: Fields) -> None:
        error = refusal(**fields("a\ud800"))
        assert error.field == field
        assert "encode" in str(error)
        str(error).encode()

    @every_place
    def test_text_of_undecodable_bytes_is_accepted(self, field: str, fields: Fields) -> None:
        text = os.fsdecode(b"caf\xe9")
        assert getattr(spec(**fields(text)), field) is not None

    @every_place
    @pytest.mark.parametrize("text", ["é", "日本", "🙂", "a\u2028b", "\u200b", "\xa0x"])
    def test_text_of_any_language_is_accepted(self, field: str, fields: Fields, text: str) -> None:
        assert getattr(spec(**fields(text)), field) is not None

    @every_place
    @pytest.mark.parametrize("value", cases(b"x", 3, True, [], object()))
    def test_what_is_no_text_is_refused(self, field: str, fields: Any, value: Any) -> None:
        if isinstance(value, list) and field in {"env", "labels", "requires"}:
            value = ()
        made = fields(value)
        if made == {"command": []}:
            made = {"command": [[]]}
        assert refusal(**made).field == field

    @pytest.mark.parametrize("field", ["name", "cwd", "image", "provider", "prefers", "key"])
    def test_an_empty_text_is_refused(self, field: str) -> None:
        assert refusal(**{field: ""}).field == field

    def test_cwd_may_be_a_path(self) -> None:
        assert spec(cwd=PurePosixPath("/tmp/a")).cwd == "/tmp/a"

    @every_place
    def test_any_text_is_accepted_or_refused_by_the_name_of_its_field(
        self, field: str, fields: Fields
    ) -> None:
        plain = (field, fields) in PLAIN_TEXT

        @deterministic
        @given(st.text(st.characters() | st.characters(categories=["Cc", "Cs"]), max_size=6))
        def holds(text: str) -> None:
            categories = [unicodedata.category(c) for c in text]
            lone = any("\ud800" <= c <= "\udfff" and not "\udc80" <= c <= "\udcff" for c in text)
            flawed = lone or "\0" in text or (plain and "Cc" in categories)
            if flawed:
                error = refusal(**fields(text))
                assert error.field == field
                str(error).encode()
            elif text.strip() and "=" not in text:
                made = spec(**fields(text))
                assert pickled(made) == made

        holds()

    @pytest.mark.parametrize(
        "fields",
        cases(
            {"env": {"X" * 1_000_000 + "=": "v"}},
            {"env": {"HODEI_" + "X" * 1_000_000: "v"}},
            {"labels": {"hodei." + "x" * 1_000_000: "v"}},
            {"name": "x" * 1_000_000 + "\n"},
            {"name": "x" * 2_000_000},
            {"priority": "x" * 1_000_000},
            {"timeout": "x" * 1_000_000},
        ),
    )
    def test_a_huge_value_makes_a_short_message(self, fields: dict[str, Any]) -> None:
        assert len(str(refusal(**fields))) < 300

    def test_a_value_of_the_environment_is_never_in_a_message(self) -> None:
        assert "s3cret" not in str(refusal(env={"TOKEN": "s3cret\0"}))


class TestMappings:
    @pytest.mark.parametrize("field", ["env", "labels", "requires"])
    @pytest.mark.parametrize(
        "value",
        cases(
            None, "A=b", [("A", "b")], 3, {"": "x"}, {"a": None}, {"a": 1}, {1: "a"}, {b"a": "b"}
        ),
    )
    def test_a_mapping_is_one_of_text_to_text(self, field: str, value: Any) -> None:
        assert refusal(**{field: value}).field == field

    @pytest.mark.parametrize("field", ["env", "labels", "requires"])
    def test_a_change_of_the_mapping_passed_in_changes_nothing(self, field: str) -> None:
        given_mapping = {"a": "1"}
        made = spec(**{field: given_mapping})
        before = hash(made)
        given_mapping["a"] = "2"
        given_mapping["HODEI_X"] = "\0"
        assert getattr(made, field) == {"a": "1"}
        assert hash(made) == before

    @pytest.mark.parametrize("field", ["env", "labels", "requires"])
    def test_a_mapping_of_a_spec_cannot_be_changed(self, field: str) -> None:
        mapping: Any = getattr(spec(**{field: {"a": "1"}}), field)
        with pytest.raises(TypeError):
            mapping["a"] = "2"

    @pytest.mark.parametrize("field", ["env", "labels", "requires"])
    def test_any_mapping_is_taken(self, field: str) -> None:
        made = spec(**{field: MappingProxyType({"a": ""})})
        assert getattr(made, field) == {"a": ""}

    @pytest.mark.parametrize("name", ["HODEI_JOB_ID", "HODEI_", "HODEI_ANYTHING"])
    def test_a_variable_of_the_library_is_refused(self, name: str) -> None:
        error = refusal(env={name: "x"})
        assert error.field == "env"
        assert name in str(error)

    @pytest.mark.parametrize("name", ["HODEI", "hodei_x", "XHODEI_", "A.B", "a b", "1"])
    def test_another_variable_is_accepted(self, name: str) -> None:
        assert spec(env={name: "x=y"}).env == {name: "x=y"}

    @pytest.mark.parametrize("name", ["=", "A=", "=A", "A=B"])
    def test_a_variable_whose_name_holds_an_equals_sign_is_refused(self, name: str) -> None:
        assert refusal(env={name: "x"}).field == "env"

    @pytest.mark.parametrize("name", ["hodei.", "hodei.store"])
    def test_a_label_of_the_library_is_refused(self, name: str) -> None:
        error = refusal(labels={name: "x"})
        assert error.field == "labels"
        assert name in str(error)

    @pytest.mark.parametrize("name", ["hodei", "hodeix", "Hodei.x", "x.hodei."])
    def test_another_label_is_accepted(self, name: str) -> None:
        assert spec(labels={name: "x"}).labels == {name: "x"}

    def test_a_label_of_the_library_may_be_required(self) -> None:
        assert spec(requires={"hodei.zone": "b"}).requires == {"hodei.zone": "b"}

    def test_the_newline_of_a_value_is_kept(self) -> None:
        assert spec(env={"A": "b\nc\n"}).env["A"] == "b\nc\n"


class TestSpans:
    @pytest.mark.parametrize("field", ["timeout", "pending_timeout", "delay", "grace"])
    def test_a_span_is_seconds_or_a_timedelta(self, field: str) -> None:
        for value in (2, 2.0, timedelta(seconds=2)):
            assert getattr(spec(**{field: value}), field) == timedelta(seconds=2)

    @pytest.mark.parametrize("field", ["timeout", "pending_timeout", "delay", "grace"])
    @pytest.mark.parametrize(
        "value",
        cases(
            -1,
            -0.001,
            timedelta(seconds=-1),
            math.nan,
            math.inf,
            -math.inf,
            1e300,
            10**10_000,
            MAX_SPAN + timedelta(microseconds=1),
            timedelta.max,
            "5",
            True,
            [5],
        ),
    )
    def test_a_span_that_cannot_be_is_refused(self, field: str, value: Any) -> None:
        assert refusal(**{field: value}).field == field

    @pytest.mark.parametrize("field", ["timeout", "pending_timeout"])
    @pytest.mark.parametrize("value", cases(0, 0.0, timedelta(0), 1e-9))
    def test_a_limit_of_zero_is_refused(self, field: str, value: float | timedelta) -> None:
        assert refusal(**{field: value}).field == field

    def test_a_delay_and_a_grace_of_zero_are_accepted(self) -> None:
        made = spec(delay=0, grace=0)
        assert made.delay == made.grace == timedelta(0)

    def test_there_is_always_a_grace(self) -> None:
        assert refusal(grace=None).field == "grace"

    @pytest.mark.parametrize("field", ["timeout", "pending_timeout", "delay", "grace"])
    def test_a_hundred_years_are_accepted(self, field: str) -> None:
        assert getattr(spec(**{field: MAX_SPAN}), field) == MAX_SPAN


class Urgency(IntEnum):
    HIGH = 10


class TestOthers:
    @pytest.mark.parametrize("value", cases(True, False, 1.0, "1", None, math.nan, 2**31, -(2**31)))
    def test_a_priority_is_a_whole_number_of_32_bits(self, value: Any) -> None:
        assert refusal(priority=value).field == "priority"

    def test_a_priority_of_thousands_of_digits_is_refused_like_others(self) -> None:
        assert refusal(priority=10**10_000).field == "priority"

    @pytest.mark.parametrize("value", cases(0, -1, 2**31 - 1, -(2**31) + 1, Urgency.HIGH))
    def test_a_priority_within_32_bits_is_accepted(self, value: int) -> None:
        assert spec(priority=value).priority == value

    @pytest.mark.parametrize("value", cases(None, "1 CPU", 1, {"cpus": 1}, RetryPolicy()))
    def test_resources_of_another_type_are_refused(self, value: Any) -> None:
        assert refusal(resources=value).field == "resources"

    @pytest.mark.parametrize(
        "value",
        cases(
            Resources(1e300),
            Resources(1_000_001),
            Resources(1, 2**70),
            Resources(1, "9" * 18 + "TiB"),
        ),
    )
    def test_resources_beyond_every_machine_are_refused(self, value: Resources) -> None:
        part = "memory" if value.cpus == 1 else "cpus"
        assert refusal(resources=value).field == f"resources.{part}"

    def test_a_memory_that_is_no_size_is_refused(self) -> None:
        with pytest.raises(InvalidJobError, match="12 parsecs") as caught:
            spec(resources=Resources(memory="12 parsecs"))
        assert caught.value.field == "resources.memory"

    @pytest.mark.parametrize("value", cases(None, 3, {"max_attempts": 3}, Resources()))
    def test_a_retry_of_another_type_is_refused(self, value: Any) -> None:
        assert refusal(retry=value).field == "retry"

    @pytest.mark.parametrize("value", cases("text", 3, [1], ["x"], array.array("b", [1])))
    def test_stdin_of_another_type_is_refused(self, value: Any) -> None:
        assert refusal(stdin=value).field == "stdin"

    @pytest.mark.parametrize("data", cases(b"\0\xff", bytearray(b"\0\xff"), memoryview(b"\0\xff")))
    def test_stdin_is_any_bytes(self, data: bytes) -> None:
        made = spec(stdin=data)
        assert type(made.stdin) is bytes
        assert made.stdin == b"\0\xff"

    def test_a_change_of_the_buffer_passed_in_changes_nothing(self) -> None:
        buffer = bytearray(b"abc")
        made = spec(stdin=buffer)
        buffer[:] = b"xyz"
        assert made.stdin == b"abc"

    def test_empty_stdin_is_not_none(self) -> None:
        assert spec(stdin=b"").stdin == b""
        assert spec().stdin is None


class TestSizes:
    @pytest.mark.parametrize(
        "fill",
        [
            pytest.param(lambda n: {"command": "x" * n}, id="command"),
            pytest.param(lambda n: {"command": ["x" * (n - 3), "abc"]}, id="argv"),
            pytest.param(lambda n: {"command": "1234", "name": "x" * (n - 4)}, id="name"),
            pytest.param(
                lambda n: {"command": "1234", "env": {"AB": "x" * (n - 8), "C": "d"}}, id="env"
            ),
            pytest.param(lambda n: {"command": "1234", "env": {"x" * (n - 4): ""}}, id="env-name"),
            pytest.param(
                lambda n: {"command": "1234", "labels": {"a": "x" * (n - 5)}}, id="labels"
            ),
            pytest.param(
                lambda n: {
                    "command": "1234",
                    "name": "12",
                    "labels": {"a": "b"},
                    "env": {"C": "x" * (n - 9)},
                },
                id="together",
            ),
        ],
    )
    def test_texts_of_a_mebibyte_are_accepted_and_one_byte_more_is_not(
        self, fill: Callable[[int], dict[str, Any]]
    ) -> None:
        spec(**fill(MAX_TEXT_BYTES))
        error = refusal(**fill(MAX_TEXT_BYTES + 1))
        assert str(MAX_TEXT_BYTES + 1) in str(error)

    @pytest.mark.parametrize("field", ["command", "name", "env", "labels"])
    def test_the_error_names_the_largest_of_the_four(self, field: str) -> None:
        big = "x" * (MAX_TEXT_BYTES + 1)
        value: str | dict[str, str] = {"a": big} if field in {"env", "labels"} else big
        assert refusal(**{field: value}).field == field

    @pytest.mark.parametrize(
        ("character", "size"), [("x", 1), ("é", 2), ("日", 3), ("🙂", 4), ("\udc80", 1)]
    )
    def test_sizes_count_encoded_bytes(self, character: str, size: int) -> None:
        most = MAX_TEXT_BYTES // size
        rest = "x" * (MAX_TEXT_BYTES - most * size)
        spec(command=character * most + rest)
        assert refusal(command=character * most + rest + "x").field == "command"

    def test_the_limit_is_a_mebibyte(self) -> None:
        assert MAX_TEXT_BYTES == 1024 * 1024
        assert MAX_STDIN_BYTES == 16 * 1024 * 1024

    def test_stdin_of_16_mebibytes_is_accepted_and_one_byte_more_is_not(self) -> None:
        data = bytes(MAX_STDIN_BYTES)
        assert spec(stdin=data).stdin == data
        assert refusal(stdin=data + b"x").field == "stdin"

    def test_the_size_of_stdin_is_its_bytes_whatever_the_items_of_its_buffer(self) -> None:
        wide = memoryview(bytes(MAX_STDIN_BYTES + 8)).cast("Q")
        assert len(wide) < MAX_STDIN_BYTES
        assert refusal(stdin=wide).field == "stdin"


class TestValue:
    def test_equal_specs_have_equal_hashes(self) -> None:
        assert spec(**FULL) == spec(**FULL)
        assert hash(spec(**FULL)) == hash(spec(**FULL))
        turned = {**FULL, "env": dict(reversed(FULL["env"].items()))}
        assert hash(spec(**turned)) == hash(spec(**FULL))

    @pytest.mark.parametrize("name", list(FULL))
    def test_specs_that_differ_in_a_field_are_different(self, name: str) -> None:
        assert spec(**FULL) != spec(**{**FULL, name: OTHER[name]})

    def test_a_spec_cannot_be_changed(self) -> None:
        assert_frozen(spec(**FULL))
        with pytest.raises(AttributeError):
            spec().anything = 1  # type: ignore[attr-defined]

    def test_a_spec_survives_a_pickle(self) -> None:
        made = spec(**FULL)
        assert pickled(made) == made
        assert hash(pickled(made)) == hash(made)
        assert pickled(JobSpec("true")) == JobSpec("true")

    def test_a_spec_has_the_hash_of_its_equals_in_another_process(self) -> None:
        made = spec(**FULL)
        hash(made)
        script = (
            "import pickle, sys, attrs\n"
            "loaded = pickle.loads(sys.stdin.buffer.read())\n"
            "print(hash(loaded) == hash(attrs.evolve(loaded)), loaded in {attrs.evolve(loaded)})"
        )
        output = run_python(script, data=pickle.dumps(made), hash_seed=8)
        assert output.split() == [b"True", b"True"]

    def test_a_spec_is_checked_again_when_it_is_evolved(self) -> None:
        made = spec(**FULL)
        assert attrs.evolve(made) == made
        assert attrs.evolve(made, timeout=3.0).timeout == timedelta(seconds=3)
        with pytest.raises(InvalidJobError):
            attrs.evolve(made, name="a\nb")

    def test_a_spec_has_neither_a_dict_nor_a_weak_reference(self) -> None:
        assert "__dict__" not in dir(JobSpec)
        assert "__weakref__" not in dir(JobSpec)
        assert sys.getsizeof(JobSpec("true")) <= 184


class TestSameWork:
    @pytest.mark.parametrize("name", list(FULL))
    def test_priority_delay_and_labels_alone_do_not_matter(self, name: str) -> None:
        one, other = spec(**FULL), spec(**{**FULL, name: OTHER[name]})
        same = name in {"priority", "delay", "labels"}
        assert one.same_work(other) is same
        assert other.same_work(one) is same

    def test_a_spec_is_the_same_work_as_itself(self) -> None:
        assert spec(**FULL).same_work(spec(**FULL))

    def test_all_three_may_differ_at_once(self) -> None:
        differing = {name: OTHER[name] for name in ("priority", "delay", "labels")}
        assert spec(**FULL).same_work(spec(**{**FULL, **differing}))


def test_each_field_is_tested_with_two_values() -> None:
    assert list(OTHER) == list(FULL)
    mapping: Mapping[str, Any] = OTHER
    assert all(mapping[name] != FULL[name] for name in FULL)
