"""uvicorn around the app, with a stop that reaches waiting requests first."""

from __future__ import annotations

import gc
import logging
import socket
from contextlib import suppress
from typing import Any

import uvicorn

from api.main import create_app
from api.settings import ApiSettings
from tracker.cli.tracing import Tracing, tracing


def serve(settings: ApiSettings) -> bool:
    """Serve until a signal says stop.

    Returns:
        Whether it ever served.
    """
    with tracing("flowtrail-api", enabled=settings.tracing) as spans:
        server = Server(server_config(settings, spans))
        # What modules and routes are made of lives until the end. Left out, a full collection takes
        # 0.1 s instead of 0.2 (timed in the API of `benchmarks.live`, with its 500 sockets).
        gc.collect()
        gc.freeze()
        # uvicorn logs why it cannot listen and exits; the command has something to add.
        with suppress(SystemExit):
            server.run()
    return server.started


FRAME_MAX = 65_536
"""Bytes of a frame that a client may send; what they ask for is short."""


UNREAD_SECONDS = 60.0
"""After which the kernel ends a connection whose peer takes in nothing of what it is sent. A peer
that is there but does not read would keep its place among the live connections for ever: whoever
sends, or closes in order, waits for it."""


class _WithoutSocketLines(logging.Filter):
    """uvicorn logs the whole URL of each WebSocket, with keys and tickets in it;
    `api.middleware` has a line of its own."""

    def filter(self, record: logging.LogRecord) -> bool:
        return '"WebSocket %s"' not in str(record.msg)


def server_config(settings: ApiSettings, spans: Tracing | None = None) -> uvicorn.Config:
    """uvicorn's settings from ours."""
    logging.getLogger("uvicorn.error").addFilter(_WITHOUT_SOCKET_LINES)
    return uvicorn.Config(
        create_app(settings, spans),
        host=settings.api_host,
        port=settings.api_port,
        log_config=None,
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=settings.shutdown_grace,
        ws_max_size=FRAME_MAX,
    )


_WITHOUT_SOCKET_LINES = _WithoutSocketLines()


class Server(uvicorn.Server):
    """Ends connections whose peer does not read. Tells the app that it is to stop when uvicorn
    begins to wait for open requests, not when it has waited: long polls and live connections would
    use up the whole grace otherwise."""

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """See uvicorn."""
        await super().startup(sockets)
        option = getattr(socket, "TCP_USER_TIMEOUT", None)  # Linux alone has it.
        if not self.started or option is None:
            return
        for server in self.servers:
            for listener in server.sockets:  # Connections have it from theirs.
                listener.setsockopt(socket.IPPROTO_TCP, option, int(UNREAD_SECONDS * 1000))

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """See uvicorn."""
        app: Any = self.config.app
        app.state.stopping.set()
        await super().shutdown(sockets)
