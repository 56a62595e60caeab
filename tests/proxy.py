"""A TCP proxy on loopback that can fail like a network: for tests with Postgres or Temporal away.

It starts passing everything on. What `hang` holds back is not lost: it arrives after `pass_on`.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
from collections.abc import Iterator
from types import TracebackType
from urllib.parse import urlsplit, urlunsplit

LOOPBACK = "127.0.0.1"
CHUNK_BYTES = 65_536
# SO_LINGER with a time of 0: closing sends RST instead of FIN.
RESET_ON_CLOSE = struct.pack("ii", 1, 0)


class TcpProxy:
    """`async with TcpProxy(server.port) as proxy:` then connect to `proxy.port`."""

    def __init__(self, target_port: int) -> None:
        self.target_port = target_port
        self.port = 0
        self._open = asyncio.Event()
        self._open.set()
        self.answers_lost = 0
        self._resetting = False
        self._losing = False
        self._delay = 0.0
        self._connections: set[asyncio.Task[None]] = set()
        self._writers: set[asyncio.StreamWriter] = set()

    @property
    def address(self) -> str:
        """`host:port`, as Temporal clients want it."""
        return f"{LOOPBACK}:{self.port}"

    def redirect(self, dsn: str) -> str:
        """The same database URL, through this proxy."""
        parts = urlsplit(dsn)
        credentials, _, _ = parts.netloc.rpartition("@")
        return urlunsplit(parts._replace(netloc=f"{credentials}@{self.address}"))

    def pass_on(self) -> None:
        """Work like a wire."""
        self._resetting = self._losing = False
        self._delay = 0.0
        self._open.set()

    def hang(self) -> None:
        """Go deaf: accept connections, move no byte in either direction, also mid-stream."""
        self._resetting = self._losing = False
        self._open.clear()

    def delay(self, seconds: float) -> None:
        """Pass on, each chunk this much later."""
        self.pass_on()
        self._delay = seconds

    def lose_answers(self) -> None:
        """Pass on what clients send; cut the connection where the server answers. What it was asked
        is done, and nobody hears of it. Counted in `answers_lost`."""
        self.pass_on()
        self._losing = True

    def reset(self) -> None:
        """Cut every connection with a TCP reset, and each new one as soon as it is made."""
        self._resetting = True
        self._open.set()
        for writer in list(self._writers):
            _reset(writer)

    async def __aenter__(self) -> TcpProxy:
        self._server = await asyncio.start_server(self._accept, LOOPBACK, 0)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._server.close()
        for connection in self._connections:
            connection.cancel()
        await asyncio.gather(*self._connections, return_exceptions=True)
        await self._server.wait_closed()

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connection = asyncio.create_task(self._serve(reader, writer))
        self._connections.add(connection)
        connection.add_done_callback(self._connections.discard)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        # Where one side breaks, the other is cut too; a target that is away looks like a reset.
        # Not ConnectionError: telling the end to a socket that is cut already is a plain OSError.
        with contextlib.suppress(OSError), self._cut_at_end(writer):
            await self._open.wait()
            if self._resetting:
                _reset(writer)
                return
            target_reader, target_writer = await asyncio.open_connection(LOOPBACK, self.target_port)
            with self._cut_at_end(target_writer):
                await asyncio.gather(
                    self._pump(reader, target_writer),
                    self._pump(target_reader, writer, answers=True),
                )

    @contextlib.contextmanager
    def _cut_at_end(self, writer: asyncio.StreamWriter) -> Iterator[None]:
        self._writers.add(writer)
        try:
            yield
        finally:
            self._writers.discard(writer)
            writer.transport.abort()

    async def _pump(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        *,
        answers: bool = False,
    ) -> None:
        while chunk := await reader.read(CHUNK_BYTES):
            await asyncio.sleep(self._delay)
            await self._open.wait()
            if answers and self._losing:
                self.answers_lost += 1
                raise ConnectionResetError("the network ate the answer")
            writer.write(chunk)
            await writer.drain()
        writer.write_eof()


def _reset(writer: asyncio.StreamWriter) -> None:
    connection: socket.socket = writer.get_extra_info("socket")
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET_ON_CLOSE)
    writer.transport.abort()
