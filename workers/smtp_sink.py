"""A local SMTP server for development: takes every mail, delivers none.

It greylists like real servers: about a third of the recipients get `451` at first and are accepted
when the sender comes back after the window. Which ones depends on the address alone, so every run
looks alike. Mail to the local part `nobody` is refused for good.
"""

from __future__ import annotations

import asyncio
import mailbox
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path

from aiosmtpd.smtp import SMTP, Envelope, Session

GREYLIST_WINDOW = 1.0
"""Seconds before a greylisted recipient is accepted."""

GREYLISTED_SHARE = 3
"""One in so many recipients is greylisted."""


@dataclass
class SinkCounts:
    """What the sink has seen since it was made.

    Attributes:
        messages: Mails accepted.
        greylisted: `451` replies.
        refused: `550` replies.
        deliveries: Accepted mails per recipient.
    """

    messages: int = 0
    greylisted: int = 0
    refused: int = 0
    deliveries: Counter[str] = field(default_factory=Counter[str])


class SmtpSink:
    """One server with its own greylist, counters and mail folder.

    Args:
        window: Seconds before a greylisted recipient is accepted.
        clock: Monotonic seconds, for tests.
    """

    def __init__(
        self, *, window: float = GREYLIST_WINDOW, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.counts = SinkCounts()
        self._window = window
        self._clock = clock
        self._first_seen: dict[tuple[str | None, str], float] = {}
        self._maildir: mailbox.Maildir | None = None
        self._writing = asyncio.Lock()
        self._server: asyncio.Server | None = None

    async def start(
        self, host: str = "127.0.0.1", port: int = 0, folder: Path | None = None
    ) -> int:
        """Listen.

        Args:
            port: 0 takes a free one.
            folder: Maildir for the accepted mails, made if absent; None keeps counts only.

        Returns:
            The port.

        Raises:
            OSError: If the port is taken.
        """
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(
            lambda: SMTP(self, hostname="flowtrail-sink", ident="Flowtrail sink", loop=loop),
            host,
            port,
        )
        if folder is not None:
            self._maildir = await asyncio.to_thread(_open_maildir, folder)
        return self._server.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        """Stop listening; connections under way are left to end by themselves."""
        if self._server is not None:
            self._server.close()
            self._server = None

    # aiosmtpd finds its hooks by these names.
    async def handle_RCPT(
        self,
        server: SMTP,
        session: Session,
        envelope: Envelope,
        address: str,
        rcpt_options: list[str],
    ) -> str:
        """Accept a recipient, defer it or refuse it."""
        if address.startswith("nobody@"):
            self.counts.refused += 1
            return "550 5.1.1 No such mailbox"
        if self._is_deferred(envelope.mail_from, address):
            self.counts.greylisted += 1
            return "451 4.7.1 Greylisted, please try again later"
        envelope.rcpt_tos.append(address)
        return "250 2.1.5 OK"

    async def handle_DATA(self, server: SMTP, session: Session, envelope: Envelope) -> str:
        """Keep the mail."""
        if self._maildir is not None:
            async with self._writing:  # A Maildir is not safe to share between threads.
                await asyncio.to_thread(self._maildir.add, envelope.original_content or b"")
        self.counts.messages += 1
        self.counts.deliveries.update(envelope.rcpt_tos)
        return "250 2.0.0 Accepted"

    def _is_deferred(self, sender: str | None, address: str) -> bool:
        if not is_greylisted(address):
            return False
        now = self._clock()
        return now - self._first_seen.setdefault((sender, address), now) < self._window


def is_greylisted(address: str) -> bool:
    """Whether the sink defers this recipient at first."""
    return sha256(address.lower().encode()).digest()[0] % GREYLISTED_SHARE == 0


def _open_maildir(folder: Path) -> mailbox.Maildir:
    folder.parent.mkdir(parents=True, exist_ok=True)
    return mailbox.Maildir(folder)
