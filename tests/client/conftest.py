"""Both clients behind one face, so that every test of the SDK runs against either."""

from __future__ import annotations

import inspect
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import httpx
import pytest

from tracker.client import AsyncTrackerClient, TrackerClient

Handler = Callable[[httpx.Request], httpx.Response]


@dataclass
class FakeTime:
    """A clock that only moves when somebody sleeps or a handler moves it."""

    now: float = 1000.0
    slept: list[float] = field(default_factory=list[float])

    def clock(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += seconds

    async def sleep_async(self, seconds: float) -> None:
        self.sleep(seconds)


@dataclass
class Caller:
    """Calls a method of either client and gives its result; iterators come as lists."""

    kind: str
    time: FakeTime

    def client(self, handler: Handler, **options: Any) -> TrackerClient | AsyncTrackerClient:
        transport = httpx.MockTransport(handler)
        shared = {"transport": transport, "clock": self.time.clock, **options}
        if self.kind == "sync":
            return TrackerClient("http://tracker.test", sleep=self.time.sleep, **shared)
        return AsyncTrackerClient("http://tracker.test", sleep=self.time.sleep_async, **shared)

    async def call(self, handler: Handler, method: str, *args: Any, **kwargs: Any) -> Any:
        """One call with a client of its own."""
        client = self.client(handler)
        try:
            return await settle(getattr(client, method)(*args, **kwargs))
        finally:
            await settle(client.close())


async def settle(value: Any) -> Any:
    """The value behind an awaitable or iterator, or the value itself."""
    if inspect.isawaitable(value):
        return await value
    if isinstance(value, AsyncIterator):
        return [item async for item in value]
    if isinstance(value, Iterator):
        return list(value)
    return value


@pytest.fixture(params=["sync", "async"])
def caller(request: pytest.FixtureRequest) -> Caller:
    return Caller(request.param, FakeTime())
