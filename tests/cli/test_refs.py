"""`refs preview` and `refs apply` on recorded runs."""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace
from typing import Any

import pytest

from tests.cli.conftest import CommandLine
from tests.factories import ARun
from tracker.core.events import RunIdentity, RunRefAdded, RunStarted, TrackerEvent
from tracker.core.fold import fold
from tracker.core.ids import Ref
from tracker.core.payloads import Handling, StoredPayload, Treatment, store_json
from tracker.store.database import DatabaseOptions, dedicated
from tracker.store.record import write_batch

RULES = """
[[refs]]
workflow_type = "Order*"
workflow_id = 'order-(?P<ref_id>.+)'
ref_type = "order"

[[refs]]
workflow_type = "Ship"
input = "order.id"
ref_type = "order"

[[refs]]
search_attribute = "CustomerId"
ref_type = "customer"
"""


def a_run(workflow_type: str, workflow_id: str, ref: Ref | None = None) -> RunIdentity:
    run = ARun(workflow_type=workflow_type, ref=ref).identity
    return replace(run, workflow_id=workflow_id)


def stored_input(*args: Any) -> StoredPayload | None:
    return store_json(json.dumps(args).encode(), Handling(Treatment.FULL), "input")


def started(run: RunIdentity, *args: Any) -> RunStarted:
    return RunStarted(run=run, history_length=3, input=stored_input(*args))


def linked(run: RunIdentity, ref: Ref) -> RunRefAdded:
    return RunRefAdded(run=run, history_length=4, ref=ref, primary=True)


def record(dsn: str, *events: TrackerEvent) -> None:
    async def write() -> None:
        async with dedicated(DatabaseOptions(dsn)) as connection:
            await write_batch(connection, "flowtrail", fold(events))

    asyncio.run(write())


def read(dsn: str, sql: str) -> list[dict[str, Any]]:
    async def fetch() -> list[dict[str, Any]]:
        async with dedicated(DatabaseOptions(dsn)) as connection:
            return await (await connection.execute(sql.encode())).fetchall()

    return asyncio.run(fetch())


def primary_refs(dsn: str) -> dict[str, str | None]:
    rows = read(dsn, "SELECT workflow_id, ref_type || '/' || ref_id AS ref FROM flowtrail.run")
    return {row["workflow_id"]: row["ref"] for row in rows}


def links(dsn: str) -> set[tuple[str, str]]:
    rows = read(
        dsn,
        "SELECT r.workflow_id, o.ref_type || '/' || o.ref_id AS ref"
        " FROM flowtrail.run_ref o JOIN flowtrail.run r ON r.id = o.run_id",
    )
    return {(row["workflow_id"], row["ref"]) for row in rows}


@pytest.fixture
def recorded(cli: CommandLine, database: str) -> str:
    """A database with one run of every sort, and rules in the current folder."""
    cli.set(database_url=database)
    (cli.folder / "flowtrail.toml").write_text(RULES)
    by_workflow = a_run("OrderFulfilment", "order-2")
    record(
        database,
        started(a_run("OrderFulfilment", "order-1")),
        started(by_workflow),
        linked(by_workflow, Ref("cart", "c-2")),
        started(a_run("OrderFulfilment", "order-3", ref=Ref("from", "memo"))),
        started(a_run("Ship", "s-1"), {"order": {"id": "o-1"}}),
        RunStarted(run=a_run("Ship", "s-2"), history_length=3),
        started(a_run("Other", "x")),
    )
    return database


EXPECTED = {
    "order-1": "order/1",
    "order-2": "order/2",
    "order-3": "from/memo",
    "s-1": "order/o-1",
    "s-2": None,
    "x": None,
}


def test_preview_shows_and_changes_nothing(cli: CommandLine, recorded: str) -> None:
    before = primary_refs(recorded)
    runs = {run["workflow_id"]: run for run in cli.json("refs", "preview")["runs"]}
    assert {key: (run["rule"], run["missing"]) for key, run in runs.items()} == {
        "order-1": (1, None),
        "order-2": (1, None),
        "s-1": (2, None),
        "s-2": (2, "input"),
        "x": (3, "search_attribute"),
    }
    assert runs["order-2"]["ref"] == {"ref_type": "cart", "ref_id": "c-2"}
    assert runs["order-2"]["found"] == {"ref_type": "order", "ref_id": "2"}
    shown = cli.run("refs", "preview").stdout
    assert "order/o-1" in shown
    assert "input not recorded" in shown
    assert len(cli.json("refs", "preview", "--limit", "2")["runs"]) == 2
    assert primary_refs(recorded) == before


def test_apply_sets_refs_where_nothing_stronger_gave_one(cli: CommandLine, recorded: str) -> None:
    assert cli.json("refs", "apply") == {
        "looked_at": 5,
        "found": 3,
        "changed": 3,
        "undecided": 2,
    }
    assert primary_refs(recorded) == EXPECTED
    assert links(recorded) == {
        ("order-1", "order/1"),
        ("order-2", "order/2"),
        ("order-2", "cart/c-2"),
        ("order-3", "from/memo"),
        ("s-1", "order/o-1"),
    }
    (workflow,) = read(
        recorded,
        "SELECT ref_id FROM flowtrail.v_workflows WHERE workflow_type = 'Ship' AND ref_id <> ''",
    )
    assert workflow["ref_id"] == "o-1"


def test_apply_can_be_repeated_and_corrects_what_rules_gave(
    cli: CommandLine, recorded: str
) -> None:
    cli.run("refs", "apply")
    assert cli.json("refs", "apply")["changed"] == 0
    (cli.folder / "flowtrail.toml").write_text(RULES.replace('"order"', '"purchase"'))
    assert "changed 3" in cli.run("refs", "apply").stdout
    assert primary_refs(recorded)["order-2"] == "purchase/2"
    assert ("order-2", "order/2") not in links(recorded)
    assert ("order-2", "cart/c-2") in links(recorded)


def test_what_a_rule_gave_outlasts_a_later_word_of_the_workflow_but_not_the_memos(
    cli: CommandLine, recorded: str
) -> None:
    cli.run("refs", "apply")
    rows = read(recorded, "SELECT id, run_key FROM flowtrail.run WHERE workflow_id = 'order-1'")
    run = replace(a_run("OrderFulfilment", "order-1"), **rows[0])
    record(recorded, linked(run, Ref("cart", "c-1")))
    assert primary_refs(recorded)["order-1"] == "order/1"
    record(recorded, started(replace(run, ref=Ref("from", "memo"))))
    assert primary_refs(recorded)["order-1"] == "from/memo"


def test_runs_of_another_namespace_are_not_touched(cli: CommandLine, recorded: str) -> None:
    assert cli.json("refs", "apply", "--namespace", "other")["looked_at"] == 0
    assert "namespace other" in cli.run("refs", "preview", "--namespace", "other").stdout


def test_the_rules_file_must_be_there_and_have_rules(cli: CommandLine, recorded: str) -> None:
    assert "nowhere.toml" in cli.run("refs", "preview", "--rules", "nowhere.toml", code=2).stderr
    (cli.folder / "empty.toml").write_text("")
    assert "no [[refs]]" in cli.run("refs", "apply", "--rules", "empty.toml", code=2).stderr
