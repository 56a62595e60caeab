"""The API as a real server: uvicorn on a free port, in a thread of its own."""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import httpx

from api.serving import Server, server_config
from api.settings import ApiSettings

UP_WITHIN = 10.0


@contextmanager
def listening(settings: ApiSettings) -> Iterator[str]:
    """Serve on any free port; gives the base URL."""
    server = Server(server_config(settings.model_copy(update={"api_port": 0})))
    thread = threading.Thread(target=server.run, name="api")
    thread.start()
    try:
        yield f"http://127.0.0.1:{_port_of(server)}"
    finally:
        server.should_exit = True
        thread.join()


async def watched(url: str, subscriptions: int = 1) -> bool:
    """Whether so many subscriptions are live; for `eventually`."""
    async with httpx.AsyncClient() as client:
        metrics = (await client.get(f"{url}/metrics")).text
    [told] = re.findall(r"^flowtrail_live_subscriptions (\S+)$", metrics, re.MULTILINE)
    return float(told) >= subscriptions


def _port_of(server: Server) -> int:
    deadline = time.monotonic() + UP_WITHIN
    while not server.started:
        assert time.monotonic() < deadline, "the API did not come up"
        time.sleep(0.01)
    return server.servers[0].sockets[0].getsockname()[1]
