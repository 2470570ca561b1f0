from __future__ import annotations

import re
import shlex
import subprocess
import sys
from importlib import metadata
from itertools import takewhile
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from hodei_core.__main__ import main
from hodei_core.cli.options import make_spec
from hodei_core.cli.program import hodei
from hodei_core.cli.program import run as run_command
from tests.cli.helpers import run


def help_of(*command: str, width: int = 100) -> str:
    result = CliRunner().invoke(hodei, [*command, "--help"], terminal_width=width)
    assert result.exit_code == 0
    return result.output


@pytest.mark.parametrize("command", [(), ("run",), ("job", "run")], ids=len)
def test_help_has_examples(command: tuple[str, ...]) -> None:
    text = help_of(*command)
    assert re.search(r"^  Examples:\n    hodei ", text, re.MULTILINE)


@pytest.mark.parametrize("command", [("run",), ("job", "run")], ids=len)
def test_help_explains_every_option_and_the_exit_codes(command: tuple[str, ...]) -> None:
    text = help_of(*command)
    for parameter in run_command.params[1:]:
        assert re.search(
            rf"^  {parameter.opts[0]}\b.*  \w|^  {parameter.opts[0]}\b.*\n +\w", text, re.MULTILINE
        )
    for code in ("124", "125", "130, 143"):
        assert re.search(rf"^    {code} ", text, re.MULTILINE)


def commands(group: click.Group, *path: str) -> list[tuple[str, ...]]:
    """Return the way to every command, groups included."""
    found = [path]
    for name, command in group.commands.items():
        if isinstance(command, click.Group):
            found += commands(command, *path, name)
        else:
            found.append((*path, name))
    return found


def test_no_line_of_help_is_wider_than_asked() -> None:
    for command in commands(hodei):
        assert max(map(len, help_of(*command).splitlines())) <= 100


@pytest.mark.parametrize("group", [(), ("job",)], ids=len)
def test_what_a_group_says_of_its_commands_fits_80_columns(group: tuple[str, ...]) -> None:
    text = help_of(*group, width=80)
    assert "..." not in text.partition("\nCommands:\n")[2]


def test_every_option_of_every_command_is_explained() -> None:
    for path in commands(hodei):
        command: click.Command = hodei
        for name in path:
            assert isinstance(command, click.Group)
            command = command.commands[name]
        assert command.help
        for option in command.params:
            assert not isinstance(option, click.Option) or option.help, (path, option.name)


def test_rich_is_imported_by_no_run() -> None:
    script = (
        "import sys; from hodei_core.cli.program import run_program; run_program(['run', 'true']); "
        "sys.exit('rich' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 0


def test_the_examples_of_run_are_acceptable() -> None:
    examples = re.findall(r"^    hodei run (.*)$", help_of("run"), re.MULTILINE)
    assert len(examples) >= 5
    for example in examples:
        lexer = shlex.shlex(example.split("   ")[0], posix=True, punctuation_chars="|<>")
        lexer.whitespace_split = True
        words = list(takewhile(lambda word: word not in ("|", "<", ">"), lexer))
        words = ["/dev/null" if word == "-" else word for word in words]
        with run_command.make_context("run", words) as context:
            options = dict(context.params)
            make_spec(options.pop("command"), options, command_hint="x")


def test_python_m_is_the_same_program() -> None:
    assert run("--help").out.decode().startswith("Usage: hodei [OPTIONS] COMMAND [ARGS]...\n")


def test_the_version_is_the_one_that_is_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(metadata, "version", lambda name: {"hodei-core": "1.2.3"}[name])
    assert CliRunner().invoke(hodei, ["--version"]).output == "hodei 1.2.3\n"


@pytest.mark.parametrize("interruption", [KeyboardInterrupt, click.Abort])
def test_ctrl_c_outside_of_a_job_leaves_130(
    monkeypatch: pytest.MonkeyPatch, interruption: type[BaseException]
) -> None:
    def interrupted(*_: object, **__: object) -> None:
        raise interruption

    monkeypatch.setattr(hodei, "main", interrupted)
    with pytest.raises(SystemExit) as caught:
        main()
    assert caught.value.code == 130


def test_without_click_the_program_says_what_to_install() -> None:
    script = "import sys; sys.modules['click'] = None; from hodei_core.__main__ import main; main()"
    done = subprocess.run(
        [sys.executable, "-c", script, "run", "true"], capture_output=True, check=False, text=True
    )
    assert done.returncode == 1
    assert done.stdout == ""
    assert done.stderr == "hodei: click is not installed: pip install 'hodei-core[cli]'\n"


def test_importing_the_library_does_not_import_click() -> None:
    script = "import sys, hodei_core; sys.exit('click' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 0


def test_nothing_outside_the_package_imports_it() -> None:
    root = Path(sys.modules["hodei_core"].__file__ or "").parent
    for path in root.rglob("*.py"):
        if path.name != "__main__.py" and "cli" not in path.relative_to(root).parts:
            assert "hodei_core.cli" not in path.read_text(), path
