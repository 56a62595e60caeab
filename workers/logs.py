"""Logging of the worker program: structlog renders what the library logs by stdlib logging, with
ref, run id and step on every record of a workflow or activity."""

from __future__ import annotations

import logging
from typing import Literal

import structlog

from tracker.log import FIELDS, TrackerLogFilter


def configure(log_format: Literal["console", "json"]) -> None:
    """Send all records to standard error, for people or for machines."""
    renderer = (
        structlog.processors.JSONRenderer()
        if log_format == "json"
        else structlog.dev.ConsoleRenderer(colors=False)
    )
    handler = logging.StreamHandler()
    handler.addFilter(TrackerLogFilter())
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                structlog.processors.TimeStamper(fmt="iso", utc=True),
                structlog.processors.format_exc_info,
                renderer,
            ],
            foreign_pre_chain=[
                structlog.stdlib.add_log_level,
                structlog.stdlib.add_logger_name,
                structlog.stdlib.ExtraAdder(allow=["event", *FIELDS]),
                _without_empty,
            ],
        )
    )
    logging.basicConfig(level=logging.INFO, handlers=[handler], force=True)


def _without_empty(
    _: object, __: str, event: structlog.typing.EventDict
) -> structlog.typing.EventDict:
    return {name: value for name, value in event.items() if value is not None}
