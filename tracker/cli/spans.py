"""Moments and parts as people type them: `24h`, `2026-11-01`, `5%`."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta

import typer

_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 7 * 86400}
_SPAN = re.compile(r"(\d{1,9})([smhdw])\Z")


def span(text: str) -> timedelta:
    """A span of time: a number with its unit, as `90d`.

    Raises:
        typer.BadParameter: It is none.
    """
    match = _SPAN.match(text)
    if match is None:
        raise typer.BadParameter(f"expected a number with s, m, h, d or w, as 90d, got {text!r}")
    try:
        return timedelta(seconds=int(match[1]) * _UNITS[match[2]])
    except OverflowError:
        raise typer.BadParameter(f"{text!r} is longer than time itself") from None


def past_moment(text: str) -> datetime:
    """A moment: a span before now, or an ISO date or time (UTC unless it says otherwise).

    Raises:
        typer.BadParameter: It is neither.
    """
    if _SPAN.match(text):
        try:
            return datetime.now(UTC) - span(text)
        except OverflowError:
            raise typer.BadParameter(f"{text!r} is before the year 1") from None
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise typer.BadParameter(
            f"expected a span before now, as 24h, or a date, as 2026-11-01, got {text!r}"
        ) from None
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def share(text: str) -> float:
    """A part of a whole: `5%` or `0.05`, more than nothing and at most all.

    Raises:
        typer.BadParameter: It is none.
    """
    number, percent = text.removesuffix("%"), text.endswith("%")
    try:
        value = float(number) / (100 if percent else 1)
    except ValueError:
        value = 0.0
    if not 0 < value <= 1:
        raise typer.BadParameter(f"expected a part, as 5% or 0.05, got {text!r}")
    return value
