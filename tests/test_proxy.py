"""The proxy fails in the ways it promises; fault tests are worth nothing otherwise."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import closing, suppress

import pytest

from tests.proxy import LOOPBACK, TcpProxy

# Longer than a loopback round trip by far, short enough to wait for.
SILENCE_SECONDS = 0.1


@pytest.fixture
async def proxy() -> AsyncIterator[TcpProxy]:
    """A proxy in front of a server that sends back every line."""
    server = await asyncio.start_server(_echo, LOOPBACK, 0)
    async with server, TcpProxy(server.sockets[0].getsockname()[1]) as proxy:
        yield proxy


async def test_passes_both_ways(proxy: TcpProxy) -> None:
    reader, writer = await _connect(proxy)
    with closing(writer):
        assert await _ask(reader, writer, b"one\n") == b"one\n"


async def test_a_connection_that_hangs_mid_stream_continues_later(proxy: TcpProxy) -> None:
    reader, writer = await _connect(proxy)
    with closing(writer):
        assert await _ask(reader, writer, b"one\n") == b"one\n"
        proxy.hang()
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(_ask(reader, writer, b"two\n"), SILENCE_SECONDS)
        proxy.pass_on()
        assert await reader.readline() == b"two\n"


async def test_accepts_connections_while_it_hangs(proxy: TcpProxy) -> None:
    proxy.hang()
    reader, writer = await _connect(proxy)
    with closing(writer):
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(_ask(reader, writer, b"one\n"), SILENCE_SECONDS)
        proxy.pass_on()
        assert await reader.readline() == b"one\n"


async def test_resets_open_and_new_connections(proxy: TcpProxy) -> None:
    reader, writer = await _connect(proxy)
    with closing(writer):
        assert await _ask(reader, writer, b"one\n") == b"one\n"
        proxy.reset()
        with pytest.raises(ConnectionResetError):
            await reader.readline()

    reader, writer = await _connect(proxy)
    with closing(writer), pytest.raises(ConnectionResetError):
        await reader.readline()

    proxy.pass_on()
    reader, writer = await _connect(proxy)
    with closing(writer):
        assert await _ask(reader, writer, b"two\n") == b"two\n"


async def test_delays_each_chunk(proxy: TcpProxy) -> None:
    proxy.delay(SILENCE_SECONDS)
    reader, writer = await _connect(proxy)
    with closing(writer):
        started = asyncio.get_running_loop().time()
        assert await _ask(reader, writer, b"one\n") == b"one\n"
        # Once on the way there and once on the way back.
        assert asyncio.get_running_loop().time() - started >= 2 * SILENCE_SECONDS


async def test_cuts_the_client_when_the_server_is_away() -> None:
    async with TcpProxy(target_port=1) as proxy:
        reader, writer = await _connect(proxy)
        with closing(writer):
            assert await reader.read() == b""


def test_redirects_a_dsn() -> None:
    proxy = TcpProxy(5432)
    proxy.port = 6543
    assert (
        proxy.redirect("postgresql://user:secret@127.0.0.1:5432/app?sslmode=disable")
        == "postgresql://user:secret@127.0.0.1:6543/app?sslmode=disable"
    )


async def _connect(proxy: TcpProxy) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    return await asyncio.open_connection(LOOPBACK, proxy.port)


async def _ask(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, line: bytes) -> bytes:
    writer.write(line)
    return await reader.readline()


async def _echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while line := await reader.readline():
        writer.write(line)
    writer.close()


async def test_loses_answers_to_questions_that_arrived(proxy: TcpProxy) -> None:
    reader, writer = await _connect(proxy)
    with closing(writer):
        proxy.lose_answers()
        writer.write(b"one\n")
        # Closed or reset: how much of the answer's end arrives is the kernel's matter.
        with suppress(ConnectionResetError):
            assert await reader.readline() == b""
    assert proxy.answers_lost == 1
