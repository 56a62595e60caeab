"""The documents tell the truth: links, files, commands, routes, settings, statuses, error codes and
columns are compared with the code; queries and examples are run."""

from __future__ import annotations

import ast
import re
from enum import StrEnum
from pathlib import Path
from types import CodeType
from typing import Any

import pytest
import typer
from pydantic import SecretStr
from pydantic_settings import BaseSettings
from typer.core import TyperGroup

from api.errors import STATUSES
from api.main import create_app
from api.settings import ApiSettings
from tests.documents import pages as md
from tests.documents.arrows import (
    Statement,
    arrows,
    statements_about_a_run,
    statements_about_a_step,
)
from tests.documents.sample_rows import write_sample
from tests.testing.workflows import Order, charge, reserve
from tracker.cli.app import build_app
from tracker.cli.settings import CliSettings
from tracker.core.status import AttemptOutcome, RunStatus, StepKind, StepStatus
from tracker.embedded import ownership, process
from tracker.errors import TrackerError
from tracker.store.database import Database, DatabaseOptions
from tracker.temporal.refs import tracked_ref
from tracker.testing.environment import TrackedEnvironment
from workers.settings import WorkerSettings

PAGES = md.pages()
LIFECYCLE, SQL = md.read("docs/lifecycle.md"), md.read("docs/sql.md")
SETTINGS: dict[str, type[BaseSettings]] = {
    "api": ApiSettings,
    "worker": WorkerSettings,
    "commands": CliSettings,
}
ELSEWHERE: tuple[type[TrackerError], ...] = (
    ownership.DirectoryInUse,
    process.EmbeddedServerFailed,
)
"""Errors that are not in `tracker.errors`; a class that nobody has imported cannot be counted."""


def _name(path: Path) -> str:
    return str(path.relative_to(md.CHECKOUT))


@pytest.mark.parametrize("page", PAGES, ids=_name)
def test_every_link_leads_somewhere(page: Path) -> None:
    for target in md.links(page.read_text()):
        path, _, anchor = target.partition("#")
        linked = (page.parent / path).resolve() if path else page
        assert linked.exists(), f"{target} is not there"
        if anchor:
            assert anchor in md.anchors(linked.read_text()), f"{target}: no such heading"


@pytest.mark.parametrize("page", PAGES, ids=_name)
def test_every_file_named_is_there(page: Path) -> None:
    named = md.paths(page.read_text())
    assert [path for path in named if not list(md.CHECKOUT.glob(path.rstrip("/")))] == []


@pytest.mark.parametrize("page", PAGES, ids=_name)
def test_every_command_and_option_exists(page: Path) -> None:
    program = typer.main.get_command(build_app())
    for line in md.commands(page.read_text()):
        _check_call(program, line.split())


def _check_call(command: Any, words: list[str]) -> None:
    used = ["flowtrail"]
    for word in words:
        if isinstance(command, TyperGroup) and not word.startswith("-"):
            found = command.commands.get(word)
            assert found is not None, f"{' '.join(used)} has no command {word}"
            command = found
            used.append(word)
        elif word.startswith("--"):
            known = {name for parameter in command.params for name in parameter.opts}
            option = word.partition("=")[0]
            assert option in known | {"--help"}, f"{' '.join(used)} has no option {option}"


@pytest.mark.parametrize("page", PAGES, ids=_name)
def test_every_route_exists(page: Path) -> None:
    described = create_app(ApiSettings(database_url=SecretStr(""))).openapi()["paths"]
    for method, path in md.requests(page.read_text()):
        fitting = [known for known in described if _template(known).match(path)]
        methods = {name.upper() for known in fitting for name in described[known]}
        assert method in methods, f"there is no {method} {path}"


def _template(path: str) -> re.Pattern[str]:
    """What fits a path of the OpenAPI document; ref ids may hold slashes."""
    pattern = re.sub(r"\{ref_id\}", ".+", path)
    return re.compile(re.sub(r"\{\w+\}", "[^/]+", pattern) + r"\Z")


@pytest.mark.parametrize("page", PAGES, ids=_name)
def test_every_python_example_compiles(page: Path) -> None:
    for block in md.blocks(page.read_text(), "python"):
        _compiled(block)


async def test_the_readme_starts_and_signals_in_a_transaction(database: str) -> None:
    (start,) = [b for b in _readme_examples() if "start_in_transaction(" in b]
    (signal,) = [b for b in _readme_examples() if "signal_in_transaction(" in b]
    async with Database(DatabaseOptions(database)) as tracker, tracker.connection() as connection:
        await connection.execute("CREATE TABLE orders (id text PRIMARY KEY, approved_by text)")
        for block in (start, signal):
            exec(_compiled(block.replace("postgresql://localhost/flowtrail", database)), {})
        cursor = await connection.execute("SELECT status, ref_type, ref_id FROM flowtrail.run")
        found = await cursor.fetchall()
        cursor = await connection.execute(
            "SELECT o.kind, approved_by FROM flowtrail.outbox o JOIN flowtrail.run r"
            " ON r.id = o.run_id, orders ORDER BY o.created_at"
        )
        waiting = await cursor.fetchall()
    assert found == [{"status": "accepted", "ref_type": "order", "ref_id": "o-123"}]
    assert [entry["kind"] for entry in waiting] == ["start", "signal"]
    assert waiting[0]["approved_by"] == "ada"


async def test_the_test_in_the_readme_passes(flowtrail: TrackedEnvironment) -> None:
    (block,) = [b for b in _readme_examples() if "async def test_" in b]
    scope: dict[str, Any] = {
        "Order": Order,
        "reserve": reserve,
        "charge": charge,
        "tracked_ref": tracked_ref,
    }
    exec(_compiled(block), scope)
    await scope["test_an_order_is_charged"](flowtrail)


def _readme_examples() -> list[str]:
    return md.blocks(md.read("README.md"), "python")


def _compiled(block: str) -> CodeType:
    return compile(block, "example", "exec", ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)


def test_every_make_target_exists() -> None:
    targets = set(re.findall(r"^([a-z-]+):.*##", md.read("Makefile"), re.MULTILINE))
    for page in PAGES:
        text = page.read_text()
        calls = "\n".join([*md.codes(text), *md.blocks(text, "sh")])
        assert set(re.findall(r"^make ([a-z]+)", calls, re.MULTILINE)) <= targets, page


def test_the_readme_has_every_setting_with_its_default() -> None:
    told = {
        row[0].strip("`"): (row[1].strip("`"), row[2])
        for row in _table(md.section(md.read("README.md"), "Settings"), "Setting")
    }
    read: dict[str, dict[str, str]] = {}
    for program, settings in SETTINGS.items():
        for name, default in _settings(settings).items():
            read.setdefault(name, {})[program] = default
    for name in _names_in_code() - read.keys():
        assert name in told, f"{name} is read somewhere and not in README.md"
    assert read.keys() <= told.keys()
    for name, defaults in read.items():
        default, readers = told[name]
        assert set(defaults) <= set(re.split(r", ", readers)), f"{name} is read by {set(defaults)}"
        assert set(defaults.values()) - {"required"} <= {default}, name
    assert told.keys() <= read.keys() | _names_in_code()


def _settings(settings: type[BaseSettings]) -> dict[str, str]:
    """Name of the variable → its default as the documents write it."""
    found: dict[str, str] = {}
    for name, field in settings.model_fields.items():
        variable = field.alias or f"FLOWTRAIL_{name.upper()}"
        found[variable] = "required" if field.is_required() else _written(field.default)
    return found


def _written(default: Any) -> str:
    if default is None or default == ():
        return "-"
    if isinstance(default, float):
        return f"{default:g}"
    return str(default).lower() if isinstance(default, bool) else str(default)


def _names_in_code() -> set[str]:
    files = [path for folder in ("tracker", "api", "workers") for path in _python_of(folder)]
    found = re.findall(r"\bFLOWTRAIL_[A-Z_]*[A-Z]\b", "\n".join(f.read_text() for f in files))
    return set(found)


def _python_of(folder: str) -> list[Path]:
    return list((md.CHECKOUT / folder).rglob("*.py"))


@pytest.mark.parametrize(
    ("heading", "first", "statuses"),
    [
        ("Runs", "Status", RunStatus),
        ("Steps", "Status", StepStatus),
        ("Steps", "Kind", StepKind),
        ("Attempts", "Outcome", AttemptOutcome),
    ],
)
def test_the_lifecycle_names_every_status(
    heading: str, first: str, statuses: type[StrEnum]
) -> None:
    told = _table(md.section(LIFECYCLE, heading), first)
    assert {row[0].strip("`") for row in told} == set(statuses)


@pytest.mark.parametrize(
    ("heading", "statements"),
    [
        ("Every legal arrow of a run", statements_about_a_run()),
        ("Every legal arrow of a step", statements_about_a_step()),
    ],
)
def test_the_lifecycle_has_every_legal_arrow(heading: str, statements: list[Statement]) -> None:
    told = {
        (before.strip("`"), after): set(who.split(", "))
        for before, afters, who, _ in _table(md.section(LIFECYCLE, heading), "From")
        for after in md.codes(afters)
    }
    assert told == arrows(statements)


def test_the_error_page_has_every_error() -> None:
    told = {
        row[0].strip("`"): [cell.strip("`") for cell in row[1:4]]
        for row in _table(md.read("docs/errors.md"), "Error")
    }
    in_api = "".join(path.read_text() for path in _python_of("api"))
    expected: dict[str, list[str]] = {}
    for error in {*_errors(TrackerError), *ELSEWHERE}:
        sent = told.get(error.__name__, [""])[-1] != "-" or error.__name__ in in_api
        status = _http_status(error) if sent else "-"
        expected[error.__name__] = [error.code, error.error_class, status]
    assert told == expected


def _errors(root: type[TrackerError]) -> set[type[TrackerError]]:
    """All that have a code of their own."""
    own = "code" in vars(root) and root.__module__.startswith(("tracker.", "api."))
    found = {root} if own else set[Any]()
    return found.union(*map(_errors, root.__subclasses__()))


def _http_status(error: type[TrackerError]) -> str:
    return next((str(int(s)) for known, s in STATUSES if issubclass(error, known)), "500")


async def test_the_sql_page_has_every_column(database: str) -> None:
    told = {
        heading: _columns(md.section(SQL, heading))
        for heading in re.findall(r"^### (\w+)$", SQL, re.MULTILINE)
    }
    async with Database(DatabaseOptions(database)) as tracker, tracker.connection() as connection:
        rows = await (await connection.execute(_CATALOG)).fetchall()
    stored: dict[str, dict[str, str]] = {}
    for row in rows:
        stored.setdefault(row["relation"], {})[row["name"]] = row["type"]
    for table in ("run", "step", "attempt"):
        # Their pages leave out what the view of the same name has already told.
        of_view = told[f"v_{table}s"]
        told[table] |= {n: t for n, t in stored[table].items() if of_view.get(n) == t}
    assert told.keys() == stored.keys()
    for relation, columns in stored.items():
        assert told[relation] == columns, relation


_CATALOG = """
SELECT c.relname AS relation, a.attname AS name,
       replace(format_type(a.atttypid, a.atttypmod), 'timestamp with time zone', 'timestamptz')
           AS type
FROM pg_class c
JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
WHERE c.relnamespace = 'flowtrail'::regnamespace AND c.relkind IN ('r', 'p', 'v')
  AND NOT c.relispartition
"""


async def test_every_query_of_the_sql_page_finds_something(database: str) -> None:
    queries = md.blocks(SQL, "sql")
    assert len(queries) == 20
    async with Database(DatabaseOptions(database)) as tracker:
        await write_sample(tracker)
        async with tracker.connection() as connection:
            for query in queries:
                cursor = await connection.execute(query.encode())
                assert await cursor.fetchall(), query


def _columns(text: str) -> dict[str, str]:
    return {row[0].strip("`"): row[1] for row in _table(text, "Column")}


def _table(text: str, first: str) -> md.Rows:
    """Rows of the one table whose first column has this title."""
    (found,) = [table for table in md.tables(text) if table[0][0] == first]
    return found[1:]
