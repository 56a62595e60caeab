"""Logging of the API program: structlog renders stdlib records, with the request's id on each."""

from __future__ import annotations

import logging
from typing import Literal

import structlog

_QUIET = ("uvicorn.access", "httpx", "httpcore")


def configure(log_format: Literal["console", "json"]) -> None:
    """Send all records to standard error, for people or for machines."""
    renderer = (
        structlog.processors.JSONRenderer()
        if log_format == "json"
        else structlog.dev.ConsoleRenderer(colors=False)
    )
    handler = logging.StreamHandler()
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
    for name in _QUIET:
        # One line per request is ours (`api.middleware`), with id and duration.
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
        event_dict.pop("color_message", None)
        return event_dict
