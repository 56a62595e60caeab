"""The shipped dashboards: every panel's SQL runs, as the role that Grafana gets, and shows rows."""

from __future__ import annotations

import asyncio
import json
import re
import subprocess
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import psycopg
import pytest
import yaml
from psycopg.conninfo import make_conninfo

from tests.documents.sample_rows import write_sample
from tracker.embedded.binaries import postgres_programs
from tracker.store.database import Database, DatabaseOptions

GRAFANA = Path(__file__).parent.parent / "deploy" / "grafana"
DASHBOARDS = sorted(GRAFANA.glob("dashboards/*.json"))
VALUES = {
    "${namespace:sqlstring}": "'default'",
    "${ref_type:sqlstring}": "'order'",
    "${ref_id:sqlstring}": "'o-123'",
    "$workflow_type": "'OrderFulfilment','EmailCampaign'",
    "$__timeFrom()": "'2026-03-01T00:00:00Z'",
    "$__timeTo()": "'2026-04-01T00:00:00Z'",
}
"""What Grafana puts in the place of variables and macros."""


def read(path: Path) -> dict[str, Any]:
    return json.loads(path.read_text())


def expanded(sql: str) -> str:
    """SQL as Grafana sends it."""
    sql = re.sub(
        r"\$__timeGroupAlias\(([\w.]+), \$__interval\)",
        r'floor(extract(epoch FROM \1) / 3600) * 3600 AS "time"',
        sql,
    )
    for name, value in VALUES.items():
        sql = sql.replace(name, value)
    assert "$" not in sql, sql
    return sql


@pytest.fixture
def reader(database: str) -> Iterator[psycopg.Connection[Any]]:
    """Connected as Grafana's role, to a database that has something to show."""
    asyncio.run(fill(database))
    for _ in range(2):
        subprocess.run(
            [
                *(postgres_programs() / "psql", database, "--quiet"),
                *("--set=ON_ERROR_STOP=1", "--set=password=pa'ss"),
                f"--file={GRAFANA / 'create-reader.sql'}",
            ],
            check=True,
        )
    dsn = make_conninfo(database, user="flowtrail_grafana", password="pa'ss")
    with psycopg.connect(dsn, autocommit=True) as connection:
        yield connection


async def fill(database: str) -> None:
    async with Database(DatabaseOptions(database)) as tracker:
        await write_sample(tracker)


@pytest.mark.parametrize("path", DASHBOARDS, ids=lambda path: path.stem)
def test_every_panel_shows_something(reader: psycopg.Connection[Any], path: Path) -> None:
    for title, query, form in queries(read(path)):
        cursor = reader.execute(expanded(query).encode())
        assert cursor.description is not None
        columns = [column.name for column in cursor.description]
        assert cursor.fetchall(), title
        if form == "time_series":
            assert columns[:2] == ["time", "metric"], title
            assert "ORDER BY 1" in query, title


def queries(dashboard: dict[str, Any]) -> Iterator[tuple[str, str, str]]:
    """Title, SQL and format of panels, and of variables that ask."""
    for panel in dashboard["panels"]:
        for target in panel["targets"]:
            yield panel["title"], target["rawSql"], target["format"]
    for variable in dashboard["templating"]["list"]:
        if variable["type"] == "query":
            yield variable["name"], variable["query"], "table"


@pytest.mark.parametrize("path", DASHBOARDS, ids=lambda path: path.stem)
def test_panels_ask_the_data_source_that_is_provisioned(path: Path) -> None:
    [source] = yaml.safe_load((GRAFANA / "provisioning/datasources/flowtrail.yaml").read_text())[
        "datasources"
    ]
    dashboard = read(path)
    asked = [*dashboard["panels"], *(t for p in dashboard["panels"] for t in p["targets"])]
    for one in asked:
        assert one["datasource"] == {"type": source["type"], "uid": source["uid"]}
    assert len({panel["id"] for panel in dashboard["panels"]}) == len(dashboard["panels"])


@pytest.mark.parametrize("path", DASHBOARDS, ids=lambda path: path.stem)
def test_panels_do_not_overlap(path: Path) -> None:
    rows: dict[int, list[tuple[int, int]]] = {}
    for panel in read(path)["panels"]:
        place = panel["gridPos"]
        for y in range(place["y"], place["y"] + place["h"]):
            rows.setdefault(y, []).append((place["x"], place["x"] + place["w"]))
    for y, spans in rows.items():
        assert all(one[1] <= after[0] for one, after in pairwise(sorted(spans))), y
        assert max(end for _, end in spans) <= 24


def test_dashboards_have_ids_of_their_own() -> None:
    ids = [read(path)["uid"] for path in DASHBOARDS]
    assert len(ids) == 2
    assert len(set(ids)) == 2


def test_the_role_reads_the_views_alone(reader: psycopg.Connection[Any]) -> None:
    for refused in (
        "SELECT FROM flowtrail.run",
        "SELECT FROM flowtrail.payload",
        "SELECT FROM flowtrail.api_key",
        "CREATE TABLE mine ()",
    ):
        with pytest.raises(psycopg.Error, match=r"permission denied|read-only"):
            reader.execute(refused.encode())
