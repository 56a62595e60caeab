"""Puts ref, run id and step on log records.

The plugin attaches `TrackerLogFilter` to Temporal's workflow and activity loggers; add it to your
own handlers to have the fields on every record that is logged while a workflow or activity runs.
"""

from __future__ import annotations

import logging
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

FIELDS = ("ref_type", "ref_id", "run_id", "temporal_run_id", "step", "attempt")
"""Attributes that every filtered record has; None where not known."""

_fields: ContextVar[Mapping[str, Any] | None] = ContextVar("flowtrail_log_fields", default=None)


class TrackerLogFilter(logging.Filter):
    """Adds `FIELDS` to records; never drops one, never overwrites what is there."""

    def filter(self, record: logging.LogRecord) -> bool:
        """See `logging.Filter`."""
        known = _fields.get() or {}
        for name in FIELDS:
            if name not in record.__dict__:
                setattr(record, name, known.get(name))
        return True


def install(*loggers: str) -> None:
    """Attach the filter to loggers by name; attaching twice does nothing."""
    for name in loggers:
        logger = logging.getLogger(name)
        if not any(isinstance(known, TrackerLogFilter) for known in logger.filters):
            logger.addFilter(TrackerLogFilter())


def set_log_fields(fields: Mapping[str, Any]) -> None:
    """Make fields current for the rest of this context (a workflow's task)."""
    _fields.set(fields)


@contextmanager
def log_fields(**fields: Any) -> Generator[None]:
    """Make fields current within a block."""
    token = _fields.set(fields)
    try:
        yield
    finally:
        _fields.reset(token)
