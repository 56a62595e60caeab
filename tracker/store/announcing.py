"""SQL by which a writer announces what it changed, in the statement that changes it.

What a reader gets wrong: an announcement carries the row as it is now, not the values it changed
from, and nothing of inputs and outputs. It gets its place in the order from the sequencer later
(`tracker.feed`); until then nobody sees it.
"""

from __future__ import annotations

import re

RUN_SCALARS = (
    "id",
    "namespace",
    "engine",
    "run_key",
    "workflow_type",
    "workflow_id",
    "task_queue",
    "ref_type",
    "ref_id",
    "status",
    "status_version",
    "ordered_at",
    "accepted_at",
    "started_at",
    "finished_at",
    "paused_at",
    "erased_at",
    "attempt",
    "parent_run_key",
    "parent_workflow_id",
    "first_run_key",
    "continued_from",
    "continued_to",
    "duplicate_of",
    "rerun_of",
    "error_type",
    "error_message",
)
STEP_SCALARS = (
    "id",
    "kind",
    "name",
    "type",
    "status",
    "status_version",
    "attempts",
    "max_attempts",
    "task_queue",
    "scheduled_at",
    "started_at",
    "last_started_at",
    "finished_at",
    "next_retry_at",
    "progress_at",
    "error_type",
    "error_message",
)
# Apart from the scalars, of which nulls are left out: a null inside of these is a value.
RUN_VALUES = ("metadata", "waiting_on")
STEP_VALUES = ("progress", "detail")

_MARK = re.compile(r"\{announce (\w+)\}")
_CONFIRMED = "status_version >= (1::bigint << 60)"
# Whether one of them differs decides whether a recorded row is announced at all: recording the same
# twice is no change, and history mostly repeats what workers told.
_RUN_SHOWN = (
    "status",
    _CONFIRMED,
    "run_key",
    "ref_type",
    "ref_id",
    "metadata",
    "error_type",
    "error_message",
    "continued_to",
    "task_queue",
    "task_failed_at",
)
_STEP_SHOWN = (
    "status",
    "attempts",
    "last_started_at",
    "next_retry_at",
    "progress_at",
    "error_type",
    "error_message",
)


def with_announcements(sql: str) -> str:
    """SQL with each `{announce rows}` replaced by the statement that announces the rows of `run`
    in the CTE of that name, which must have all columns of the table."""
    return _MARK.sub(lambda mark: _INTO + _run(mark[1]), sql)


def recorded() -> str:
    """Announces the rows that a batch changed to the eye: its CTEs are `run_rows`, `step_rows` and
    `given`. A run that ended comes after its steps, one that goes on before them."""
    return f"""{_INTO_REPORTED}SELECT namespace, kind, run_id, run_key, status, data,
        (SELECT j->>'report' FROM given) FROM (
        {_run("run_rows", "CASE WHEN n.finished_at IS NULL THEN 0 ELSE 2 END AS place, ")}
        LEFT JOIN LATERAL ({_before("run", _RUN_SHOWN)}) b ON true
        WHERE (b.id IS NULL OR {_differs(_RUN_SHOWN)})
          AND (SELECT coalesce((j->>'announce')::boolean, true) FROM given)
        UNION ALL
        SELECT 1, n.namespace, 'step', NULL, n.run_key, n.status,
               {_data(STEP_SCALARS, STEP_VALUES)}
        FROM step_rows n
        LEFT JOIN LATERAL ({_before("step", _STEP_SHOWN)}) b ON true
        WHERE (b.id IS NULL OR {_differs(_STEP_SHOWN)})
          AND (SELECT coalesce((j->>'announce')::boolean, true) FROM given)
    ) shown ORDER BY place"""


_INTO_REPORTED = """INSERT INTO {schema}.change_pending (
        namespace, kind, run_id, run_key, status, data, report)
    """
_INTO = """INSERT INTO {schema}.change_pending (namespace, kind, run_id, run_key, status, data)
    """


def _run(rows: str, place: str = "") -> str:
    data = _data(RUN_SCALARS, RUN_VALUES)
    return f"""SELECT {place}n.namespace, 'run' AS kind, n.id AS run_id, n.run_key, n.status,
               {data} AS data
        FROM {rows} n"""


def _data(scalars: tuple[str, ...], values: tuple[str, ...]) -> str:
    row = ", ".join(f"n.{name}" for name in scalars)
    named = ", ".join(f"'{name}', n.{name}" for name in values)
    return (
        f"jsonb_strip_nulls(to_jsonb((SELECT x FROM (SELECT {row}) x)))"
        f" || jsonb_build_object({named})"
    )


def _before(table: str, columns: tuple[str, ...]) -> str:
    """The row before the statement. With LIMIT, so that it is always looked up by its key: a plan
    that was made while the table was small would read all of it."""
    names = ", ".join(dict.fromkeys(column.split(" ")[0] for column in columns))
    return f"SELECT id, {names} FROM {{schema}}.{table} WHERE id = n.id LIMIT 1"


def _differs(columns: tuple[str, ...]) -> str:
    new, before = (", ".join(f"{row}.{column}" for column in columns) for row in ("n", "b"))
    return f"({new}) IS DISTINCT FROM ({before})"
