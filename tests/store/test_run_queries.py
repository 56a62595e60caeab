"""Lists of runs against a naive filter over the same runs, for every filter and many mixtures."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.store.run_corpus import (
    BUILDS,
    LABELS,
    PARENTS,
    QUEUES,
    REFS,
    SPAN,
    START,
    STEPS,
    TYPES,
    StoredRun,
    some_runs,
    store_runs,
)
from tests.store.watched import WatchedDatabase
from tracker.core.ids import new_id
from tracker.core.status import RunStatus
from tracker.embedded.postgres import EmbeddedPostgres
from tracker.errors import InvalidRequest
from tracker.models.filters import RunFilter
from tracker.store import run_filters, run_queries
from tracker.store.database import Database, DatabaseOptions
from tracker.store.run_queries import list_runs


@dataclass
class Corpus:
    """A database and what is in it."""

    database: Database
    runs: list[StoredRun]

    async def page(self, **filters: Any) -> tuple[list[uuid.UUID], str | None]:
        answer = await list_runs(self.database, "default", RunFilter(**filters))
        return [run.run_id for run in answer.runs], answer.next_cursor

    async def walk(self, **filters: Any) -> list[uuid.UUID]:
        """All pages, one after the other."""
        found, cursor = await self.page(**filters)
        while cursor is not None:
            more, cursor = await self.page(**filters, cursor=cursor)
            assert more, "a cursor must not lead to an empty page here"
            found += more
        return found

    def expected(self, **filters: Any) -> list[uuid.UUID]:
        asked = RunFilter(**filters)
        passing = [r for r in self.runs if r.namespace == "default" and r.passes(asked)]
        passing.sort(key=lambda r: (r.ordered_at, r.id), reverse=asked.order == "newest")
        return [run.id for run in passing]


@pytest.fixture(scope="module")
async def corpus(
    postgres_server: EmbeddedPostgres, migrated_template: str
) -> AsyncIterator[Corpus]:
    name = f"test_{uuid.uuid4().hex[:12]}"
    postgres_server.create_database(name, template=migrated_template)
    runs = some_runs(400)
    async with Database(DatabaseOptions(postgres_server.dsn(name))) as database:
        await store_runs(database, runs)
        yield Corpus(database, runs)
    postgres_server.drop_database(name)


@pytest.fixture(params=[1000, 7], ids=["probe reads all", "probe reads heads"])
def probe(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """With few entries per probe, 400 runs look as many as millions do."""
    monkeypatch.setattr(run_queries, "PROBE", request.param)
    monkeypatch.setattr(run_filters, "PROBE", request.param)


MIDDLE = START + SPAN / 2
EACH_FILTER: list[dict[str, Any]] = [
    {},
    {"ref_type": "order", "ref_id": "order-1"},
    {"ref_type": "tenant"},
    {"ref_type": "nothing"},
    {"workflow_type": ["Order"]},
    {"workflow_type": ["Order", "Report", "Order"]},
    {"status": ["failed"]},
    {"status": ["failed", "running", "accepted"]},
    {"workflow_type": ["Email"], "status": ["completed", "lost"]},
    {"metadata": {"tier": ["gold"]}},
    {"metadata": {"tier": ["gold", "true", "absent"]}},
    {"metadata": {"tier": ["silver"], "region": ["eu", "us"], "n": ["2.50"]}},
    {"metadata": {"absent": ["x"]}},
    {"workflow_id": "workflow-7"},
    {"task_queue": "mail"},
    {"started_after": MIDDLE},
    {"started_before": MIDDLE},
    {"started_after": MIDDLE, "started_before": MIDDLE + timedelta(minutes=10)},
    {"finished_after": MIDDLE},
    {"finished_before": MIDDLE},
    {"finished_after": MIDDLE, "finished_before": MIDDLE + timedelta(minutes=10)},
    {"started_after": MIDDLE, "status": ["running"], "metadata": {"region": ["eu"]}},
    {"build_id": "1.1"},
    {"parent": PARENTS[0]},
    {"roots_only": True},
    {"rerun_of": PARENTS[0]},
    {"failed_step": "charge"},
    {"retrying": True},
    {"waiting_on": "timer"},
    {"waiting_on": "nothing"},
    {"min_duration": 1200},
    {"max_duration": 600.5},
    {"min_duration": 60, "max_duration": 1200, "roots_only": True, "build_id": "1.0"},
]


@pytest.mark.usefixtures("probe")
@pytest.mark.parametrize("order", ["newest", "oldest"])
@pytest.mark.parametrize("filters", EACH_FILTER, ids=str)
async def test_each_filter(corpus: Corpus, filters: dict[str, Any], order: str) -> None:
    expected = corpus.expected(**filters, order=order)
    assert await corpus.walk(**filters, order=order, limit=37) == expected
    assert (await corpus.page(**filters, order=order, limit=500))[0] == expected


moments = st.floats(-0.1, 1.3).map(lambda part: START + SPAN * part)
some_filters = st.fixed_dictionaries(
    {"order": st.sampled_from(["newest", "oldest"]), "limit": st.integers(1, 60)},
    optional={
        "workflow_type": st.lists(st.sampled_from(TYPES), max_size=2),
        "status": st.lists(st.sampled_from(sorted(RunStatus)), max_size=4),
        "metadata": st.dictionaries(
            st.sampled_from(sorted(LABELS)),
            st.lists(st.sampled_from(sum(LABELS.values(), ())), min_size=1, max_size=3),
            max_size=3,
        ),
        "workflow_id": st.integers(0, 59).map("workflow-{}".format),
        "task_queue": st.sampled_from([*QUEUES, "absent"]),
        "started_after": moments,
        "started_before": moments,
        "finished_after": moments,
        "finished_before": moments,
        "build_id": st.sampled_from([*BUILDS, "absent"]),
        "parent": st.sampled_from(PARENTS),
        "roots_only": st.booleans(),
        "failed_step": st.sampled_from([*STEPS, "absent"]),
        "retrying": st.just(True),
        "waiting_on": st.sampled_from(["timer", "signal"]),
        "min_duration": st.floats(0, 3600),
    },
)
some_refs = st.one_of(
    st.just({}),
    st.sampled_from(REFS).map(lambda ref: {"ref_type": ref[0], "ref_id": ref[1]}),
    st.sampled_from(REFS).map(lambda ref: {"ref_type": ref[0]}),
)


@pytest.mark.usefixtures("probe")
@settings(
    max_examples=150,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(filters=some_filters, ref=some_refs)
async def test_mixtures(corpus: Corpus, filters: dict[str, Any], ref: dict[str, Any]) -> None:
    assert await corpus.walk(**filters, **ref) == corpus.expected(**filters, **ref)


async def test_pages_are_stable_while_runs_come_in(database: str) -> None:
    runs = [replace(run, namespace="default") for run in some_runs(60, seed=2)]
    async with Database(DatabaseOptions(database)) as pool:
        await store_runs(pool, runs)
        corpus = Corpus(pool, runs)
        expected = corpus.expected()
        found, cursor = await corpus.page(limit=20)
        newcomers = [
            replace(
                run,
                id=new_id(),
                run_key=None,
                ordered_at=START + SPAN * 2,
                refs=frozenset(),
                labels={},
                failed_steps=frozenset(),
            )
            for run in runs[:30]
        ]
        await store_runs(pool, newcomers)
        while cursor is not None:
            more, cursor = await corpus.page(limit=20, cursor=cursor)
            found += more
    assert found == expected


async def test_the_cursor_of_another_list_is_refused(corpus: Corpus) -> None:
    _, cursor = await corpus.page(limit=5, status=["failed"])
    assert cursor is not None
    with pytest.raises(InvalidRequest, match="other filters") as refused:
        await corpus.page(limit=5, status=["running"], cursor=cursor)
    assert refused.value.details == {"field": "cursor"}
    with pytest.raises(InvalidRequest, match="other filters"):
        await corpus.page(limit=5, status=["failed"], order="oldest", cursor=cursor)


async def test_the_limit_may_change_between_pages(corpus: Corpus) -> None:
    first, cursor = await corpus.page(limit=5)
    rest, _ = await corpus.page(limit=500, cursor=cursor)
    assert first + rest == corpus.expected()


@pytest.mark.parametrize(
    "cursor", ["", "?", "x" * 43, "AAAA", "ä", "\x00", "_" * 44, "f" + "_" * 42, "A" * 1000]
)
async def test_what_is_no_cursor_is_refused(corpus: Corpus, cursor: str) -> None:
    with pytest.raises(InvalidRequest, match="cursor"):
        await corpus.page(cursor=cursor)


async def test_skewed_runs_are_found_by_their_own_index(database: str) -> None:
    """The partial index is of use only while its predicate and the query's are the same text."""
    async with WatchedDatabase(DatabaseOptions(database)) as watched:
        await list_runs(watched, "default", RunFilter(started_after=MIDDLE))
        plan = await watched.explain(watched.statements[-1])
    assert "run_skewed_idx" in plan


async def test_a_page_takes_few_statements_whatever_the_filter(database: str) -> None:
    async with WatchedDatabase(DatabaseOptions(database)) as watched:
        for filters in EACH_FILTER:
            watched.statements.clear()
            await list_runs(watched, "default", RunFilter(**filters))
            assert len(watched.statements) <= run_queries.LOOKS + 1
