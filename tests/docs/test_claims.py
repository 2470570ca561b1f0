"""What the pages say of the code is what the code says."""

from __future__ import annotations

import builtins
import inspect
import re
import shlex
from collections.abc import Mapping
from datetime import timedelta

import attrs
import pytest

import hodei_core
from hodei_core import Hodei, HodeiError, JobSpec, SmartScheduler, WorkerPolicy
from hodei_core.backends.local import LocalProvider
from hodei_core.backends.local.environment import base_environment
from hodei_core.scheduling.breaker import BREAKER_BACKOFF
from hodei_core.scheduling.fairness import PATIENCE_SECONDS
from hodei_core.scheduling.strategies import PROVIDER_STRATEGIES, WORKER_STRATEGIES
from tests.docs.pages import DOCS, PAGES, ROOT, section
from tests.docs.tables import CONCEPTS, MADE

JOBS = DOCS / "guides" / "jobs.md"
TROUBLE = DOCS / "guides" / "troubleshooting.md"
WORKERS = DOCS / "guides" / "workers.md"
STRATEGY = DOCS / "guides" / "write-a-strategy.md"


def first_column(text: str) -> list[str]:
    """Return what the rows of a table begin with, in backticks."""
    return re.findall(r"^\| `(\w+)`", text, re.MULTILINE)


@pytest.mark.parametrize("name", MADE)
def test_a_table_made_from_the_code_is_up_to_date(name: str) -> None:
    """`python -m tests.docs.tables` writes them anew."""
    assert section(CONCEPTS, name).strip() == MADE[name]().strip()


def test_the_table_of_fields_names_those_of_a_job() -> None:
    assert first_column(section(JOBS, "fields")) == [field.name for field in attrs.fields(JobSpec)]


def shown(default: object) -> str:
    """Return how the table of a policy shows a default."""
    if isinstance(default, timedelta):
        return f"{default.total_seconds():g}"
    return "none" if default is None else str(default)


def test_the_table_of_the_policy_is_that_of_the_class() -> None:
    rows = re.findall(
        r"^\| `(\w+)` \| ([\w ]+) \| (\w+) \|", section(WORKERS, "policy"), re.MULTILINE
    )
    fields = attrs.fields(WorkerPolicy)
    default = WorkerPolicy()
    assert [(name, value) for name, _, value in rows] == [
        (field.name, shown(getattr(default, field.name))) for field in fields
    ]
    spans = {field.name for field in fields if "timedelta" in str(field.type)}
    assert {name for name, unit, _ in rows if unit == "seconds"} == spans


@pytest.mark.parametrize(
    ("name", "strategies"),
    [("worker strategies", WORKER_STRATEGIES), ("provider strategies", PROVIDER_STRATEGIES)],
)
def test_the_tables_of_strategies_name_those_there_are(
    name: str, strategies: Mapping[str, object]
) -> None:
    text = section(STRATEGY, name)
    assert first_column(text) == list(strategies)
    (default,) = re.findall(r"^\| `(\w+)` .*the default \|$", text, re.MULTILINE)
    smart = inspect.signature(SmartScheduler)
    assert smart.parameters[name.replace(" strategies", "_strategy")].default == default


def test_the_spans_that_a_page_names_are_those_of_the_code() -> None:
    text = " ".join(WORKERS.read_text(encoding="utf-8").split())
    assert f"overtaken for {PATIENCE_SECONDS:g} s" in text
    assert f"opens it for {BREAKER_BACKOFF.first.total_seconds():g} s" in text
    assert f"up to {BREAKER_BACKOFF.max.total_seconds() / 60:g} minutes" in text
    assert f"up to {BREAKER_BACKOFF.jitter:.0%} shorter".replace("%", " %") in text


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
