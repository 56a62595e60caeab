"""What commands print: tables for people, JSON for programs.

Stored text is data, not markup: rich must not read `[red]` in it, and a terminal must not obey
escape sequences that somebody put into an error message.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Generator, Iterable, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any

import typer
from pydantic import BaseModel
from pydantic_core import to_jsonable_python
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table
from rich.text import Text

JsonFlag = Annotated[bool, typer.Option("--json", help="Print JSON, for programs.")]

_STYLES = {
    "completed": "green",
    "running": "cyan",
    "started": "cyan",
    "failed": "red",
    "timed_out": "red",
    "terminated": "red",
    "rejected": "red",
    "lost": "red",
    "canceled": "yellow",
}


def write_json(value: BaseModel | Any) -> None:
    """Print a value as indented JSON; models keep the names that they have on the wire."""
    typer.echo(json.dumps(to_jsonable_python(value), indent=2, ensure_ascii=False))


def write_table(headers: Sequence[str], rows: Iterable[Sequence[Any]], empty: str) -> None:
    """Print a table, or a line if it has no rows. Cells longer than the terminal wrap."""
    listed = list(rows)
    if not listed:
        typer.echo(empty)
        return
    table = Table(box=None, header_style="bold", pad_edge=False)
    for header in headers:
        table.add_column(header, overflow="fold")
    for row in listed:
        table.add_row(*(cell(value) for value in row))
    Console().print(table)


@contextmanager
def progress(what: str, total: int | None = None) -> Generator[Callable[[int], None]]:
    """A progress bar on stderr, for people alone; call what it gives with how much is done.

    Args:
        total: None: unknown.
    """
    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    with Progress(
        *columns,
        TimeElapsedColumn(),
        console=console,
        transient=True,
        disable=not console.is_terminal,
    ) as bar:
        task = bar.add_task(what, total=total)
        yield lambda done: bar.update(task, completed=done)


def write_fields(fields: Iterable[tuple[str, Any]]) -> None:
    """Print names and values, leaving out what is absent."""
    table = Table(box=None, show_header=False, pad_edge=False)
    table.add_column(style="bold", no_wrap=True)
    table.add_column(overflow="fold")
    for name, value in fields:
        if value is not None:
            table.add_row(name, cell(value))
    Console().print(table)


def cell(value: Any) -> Text:
    """A value as table text."""
    text = _text(value)
    return Text(text, style=_STYLES.get(text, ""))


def one_line(text: str) -> str:
    """Text on one line, without anything that a terminal obeys."""
    return "".join(char if char.isprintable() else " " for char in text).strip()


def took(start: datetime | None, end: datetime | None) -> str | None:
    """Time between two moments, for people."""
    if start is None or end is None:
        return None
    seconds = max(timedelta(0), end - start).total_seconds()
    if seconds < 1:
        return f"{seconds * 1000:.0f} ms"
    return f"{seconds:.1f} s" if seconds < 120 else str(timedelta(seconds=round(seconds)))


def _text(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, datetime):
        return value.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%SZ")
    if isinstance(value, dict | list):
        return one_line(json.dumps(value, ensure_ascii=False))
    return one_line(str(value))
