"""Logging of the programs: structlog renders what everybody logs by stdlib logging, with request
id, ref, run id and step on the records that have one."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Literal

import structlog

from tracker.log import TrackerLogFilter

# Temporal's loggers attach whole info objects; what matters of them is in the tracker's fields.
_FOREIGN = ("temporal_activity", "temporal_workflow", "color_message")


def configure(log_format: Literal["console", "json"], *, quiet: Sequence[str] = ()) -> None:
    """Send all records to standard error, for people or for machines.

    Args:
        quiet: Loggers of which only warnings are wanted.
    """
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
                structlog.contextvars.merge_contextvars,
                structlog.stdlib.add_log_level,
                structlog.stdlib.add_logger_name,
                _Extras(),
            ],
        )
    )
    logging.basicConfig(level=logging.INFO, handlers=[handler], force=True)
    for name in quiet:
        logging.getLogger(name).setLevel(logging.WARNING)


class _Extras(structlog.stdlib.ExtraAdder):
    """structlog calls the message `event`; our records name what happened in a field of that name,
    which becomes `kind` here."""

    def __call__(
        self, logger: logging.Logger, name: str, event_dict: structlog.typing.EventDict
    ) -> structlog.typing.EventDict:
        message = event_dict["event"]
        event_dict = super().__call__(logger, name, event_dict)
        if event_dict["event"] != message:
            event_dict["kind"], event_dict["event"] = event_dict["event"], message
        return {
            field: value
            for field, value in event_dict.items()
            if value is not None and field not in _FOREIGN
        }
