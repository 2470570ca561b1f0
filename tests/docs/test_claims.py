"""What the pages say of the code is what the code says."""

from __future__ import annotations

import builtins
import re
import shlex

import attrs
import pytest

import hodei_core
from hodei_core import Hodei, HodeiError, JobSpec
from hodei_core.backends.local import LocalProvider
from hodei_core.backends.local.environment import base_environment
from tests.docs.pages import DOCS, PAGES, ROOT, section
from tests.docs.tables import CONCEPTS, MADE

JOBS = DOCS / "guides" / "jobs.md"
TROUBLE = DOCS / "guides" / "troubleshooting.md"


def first_column(text: str) -> list[str]:
    """Return what the rows of a table begin with, in backticks."""
    return re.findall(r"^\| `(\w+)`", text, re.MULTILINE)


@pytest.mark.parametrize("name", MADE)
def test_a_table_made_from_the_code_is_up_to_date(name: str) -> None:
    """`python -m tests.docs.tables` writes them anew."""
    assert section(CONCEPTS, name).strip() == MADE[name]().strip()


def test_the_table_of_fields_names_those_of_a_job() -> None:
    assert first_column(section(JOBS, "fields")) == [field.name for field in attrs.fields(JobSpec)]


def test_the_list_of_variables_is_what_a_job_gets() -> None:
    listed = re.findall(r"`([^`]+)`", section(JOBS, "environment"))
    names = {name.replace("*", "ANY") for name in listed}
    others = {"API_TOKEN", "PYTHONPATH", "EDITOR", "LD_PRELOAD", "LCX", "XDGX", "DISPLAY"}
    host = dict.fromkeys(names | others, "x")
    assert base_environment("default", host).keys() == names | {"TERM"}


def test_the_list_of_variables_is_complete() -> None:
    from hodei_core.backends.local import environment

    prefixes = {f"{prefix}*" for prefix in environment._PREFIXES}
    listed = re.findall(r"`([^`]+)`", section(JOBS, "environment"))
    assert set(listed) == environment._NAMES | prefixes


def test_the_table_of_errors_names_all_with_the_builtin_that_they_are() -> None:
    rows = re.findall(r"^\| `(\w+)` \| (\w+) ", section(TROUBLE, "errors"), re.MULTILINE)
    public = {name: getattr(hodei_core, name) for name in hodei_core.__all__}
    errors = {
        name
        for name, value in public.items()
        if isinstance(value, type) and issubclass(value, HodeiError) and value is not HodeiError
    }
    assert {name for name, _ in rows} == errors
    for name, builtin in rows:
        assert issubclass(public[name], getattr(builtins, builtin))


async def test_the_table_of_exit_codes_is_what_jobs_end_with() -> None:
    text = JOBS.read_text(encoding="utf-8")
    rows = re.findall(r"^\| `([^`]+)` \| (\w+) \| (\w+) \| (\d+) \|$", text, re.MULTILINE)
    assert len(rows) == 6
    async with Hodei(providers=[LocalProvider(slots=2)]) as hodei:
        for command, state, reason, code in rows:
            result = await hodei.run(command)
            why = "none" if result.reason is None else result.reason.name
            assert (result.state.name, why, str(result.exit_code)) == (state, reason, code)
        missing = await hodei.run(shlex.split("no-such-program"))
        assert (missing.reason, missing.exit_code) == (hodei_core.Reason.START_FAILED, None)
        unknown = await hodei.run("no-such-program")
        assert (unknown.reason, unknown.exit_code) == (hodei_core.Reason.EXIT_CODE, 127)


def test_the_tests_that_pages_name_exist() -> None:
    named = {
        (file, test)
        for page in PAGES
        for file, test in re.findall(
            r"`((?:tests|src)/[\w/]+\.py)`: `(\w+)`", page.read_text(encoding="utf-8")
        )
    }
    assert len(named) > 30
    missing = [
        f"{file}::{test}"
        for file, test in sorted(named)
        if not (ROOT / file).is_file()
        or not re.search(rf"^ *(?:async )?def {test}\(", (ROOT / file).read_text(), re.MULTILINE)
    ]
    assert missing == []


def test_the_readme_is_short_and_its_links_lead_somewhere() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    assert len(text.splitlines()) < 150
    for target in re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", text):
        assert (ROOT / target).exists(), target


def test_the_targets_of_make_that_pages_name_exist() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        for target in re.findall(r"(?:^|`)make ([a-z]+)(?=`|  )", text, re.MULTILINE):
            assert re.search(rf"^{target}:", makefile, re.MULTILINE), f"{page.name}: {target}"


def test_no_page_fetches_anything_when_it_is_read() -> None:
    """Links may lead elsewhere; images, styles and scripts come along."""
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        assert not re.search(r"!\[[^\]]*\]\(\s*https?:|src\s*=\s*[\"']?https?:", text), page.name
        assert "```mermaid" not in text, "the theme would fetch what draws it"
