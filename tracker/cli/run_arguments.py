"""Arguments and options that commands about runs share, and how their texts are read."""

from __future__ import annotations

import json as jsonlib
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import typer

from tracker.cli.output import write_json
from tracker.models.wire import ControlAnswer

RunArgument = Annotated[str, typer.Argument(help="Run id, ours or Temporal's.")]
ReasonOption = Annotated[str | None, typer.Option(help="Goes into the audit.")]
RefOption = Annotated[str | None, typer.Option(help="Business object, as ref_type/ref_id.")]
ArgsOption = Annotated[
    list[str] | None, typer.Option("--arg", help="One argument, as JSON; repeatable.")
]
MetadataOption = Annotated[
    list[str] | None, typer.Option(metavar="KEY=VALUE", help="Repeatable; the value is text.")
]
BuildOption = Annotated[str | None, typer.Option("--build", help="Build id that ran it last.")]
ParentOption = Annotated[str | None, typer.Option(help="Children of this run.")]
RootsOption = Annotated[bool, typer.Option("--roots", help="Only runs that no run started.")]
FailureOption = Annotated[str | None, typer.Option(help="Group that `failures` told.")]
FailedStepOption = Annotated[
    str | None, typer.Option(help="A step of this name has ended as failed.")
]
RetryingOption = Annotated[
    bool, typer.Option("--retrying", help="A step is tried again and again.")
]
WaitingOption = Annotated[
    str | None, typer.Option("--waiting-on", help="Kind that an open run waits for, as timer.")
]


def write_control(answer: ControlAnswer, *, as_json: bool) -> None:
    """Print what came of a control action."""
    if as_json:
        write_json(answer)
        return
    before = " before it started" if answer.canceled_before_start else ""
    typer.echo(f"{answer.action}: {answer.run_id}{before}")


def arguments(args: Sequence[str]) -> list[Any]:
    """Arguments given as JSON."""
    return [json_value("--arg", text) for text in args]


def read(text: str) -> str:
    """A text, or the file that `@FILE` names."""
    if not text.startswith("@"):
        return text
    if text == "@-":
        return sys.stdin.read()
    try:
        return Path(text[1:]).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise typer.BadParameter(f"--input: {error}") from error


def json_value(option: str, text: str) -> Any:
    """A value given as JSON."""
    try:
        return jsonlib.loads(text)
    except ValueError as error:
        raise typer.BadParameter(
            f"""{option} is not JSON ({error}); text needs quotes: '"text"'"""
        ) from error


def pairs(given: Sequence[str]) -> list[tuple[str, str]]:
    """KEY=VALUE texts taken apart."""
    split = [pair.partition("=") for pair in given]
    if not all(key and equals for key, equals, _ in split):
        raise typer.BadParameter("--metadata: expected KEY=VALUE")
    return [(key, value) for key, _, value in split]


def grouped(given: Sequence[str] | None) -> dict[str, list[str]] | None:
    """KEY=VALUE texts as a metadata filter."""
    grouped: dict[str, list[str]] = {}
    for key, value in pairs(given or []):
        grouped.setdefault(key, []).append(value)
    return grouped or None


def utc(moment: datetime | None) -> datetime | None:
    """A moment; without a zone it is UTC."""
    if moment is None or moment.tzinfo is not None:
        return moment
    return moment.replace(tzinfo=UTC)
