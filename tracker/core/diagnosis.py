"""What `flowtrail doctor` finds: one line per check, and what to do about it."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Health(StrEnum):
    """How a check came out."""

    OK = "ok"
    WARNING = "warning"
    """It works, and something is not as it should be."""
    FAILED = "failed"
    SKIPPED = "skipped"
    """It could not be looked at, because something else failed or is not set."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One check.

    Attributes:
        check: Its name, one or two words.
        health: How it came out.
        found: What was seen.
        fix: What to do, unless all is well.
    """

    check: str
    health: Health
    found: str
    fix: str | None = None


def ok(check: str, found: str) -> Finding:
    """All is well."""
    return Finding(check, Health.OK, found)


def warning(check: str, found: str, fix: str) -> Finding:
    """Something is not as it should be."""
    return Finding(check, Health.WARNING, found, fix)


def failed(check: str, found: str, fix: str) -> Finding:
    """Something does not work."""
    return Finding(check, Health.FAILED, found, fix)


def skipped(check: str, found: str) -> Finding:
    """It could not be looked at."""
    return Finding(check, Health.SKIPPED, found)
