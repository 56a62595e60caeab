"""Named SQL: each `*.sql` file beside this one holds statements under `-- name: get_run` lines.

A statement is called like the method that runs it. `{schema}` in it is filled in by
`Database.sql`, `{announce rows}` here, by `store.announcing`; everything else that varies is a
parameter.
"""

from __future__ import annotations

import re
from functools import cache
from importlib.resources import files
from typing import LiteralString, cast

from tracker.store.announcing import with_announcements

_NAME = re.compile(r"^-- name: (\w+)[ \t]*\n", re.MULTILINE)


@cache
def load(file: str) -> dict[str, LiteralString]:
    """Read the statements of `{file}.sql`.

    Returns:
        Name → SQL text, without the name line.

    Raises:
        ValueError: A name stands twice, or text stands before the first name.
    """
    text = (files(__package__ or __name__) / f"{file}.sql").read_text(encoding="utf-8")
    preamble, *parts = _NAME.split(text)
    if any(line.strip() and not line.startswith("--") for line in preamble.splitlines()):
        raise ValueError(f"{file}.sql: SQL before the first '-- name:' line")
    named = list(zip(parts[::2], parts[1::2], strict=True))
    statements: dict[str, LiteralString] = {
        name: cast("LiteralString", with_announcements(sql.strip())) for name, sql in named
    }
    if len(statements) != len(named):
        raise ValueError(f"{file}.sql: a name stands twice")
    return statements
