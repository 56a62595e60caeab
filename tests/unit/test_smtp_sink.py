"""The development SMTP sink, by a real SMTP client."""

from __future__ import annotations

import mailbox
from collections.abc import AsyncIterator
from email.message import EmailMessage
from pathlib import Path

import aiosmtplib
import pytest
import pytest_asyncio

from tests.clock import Clock
from workers.smtp_sink import SmtpSink, is_greylisted

ADDRESSES = [f"user{number}@example.com" for number in range(300)]
GREYLISTED = next(filter(is_greylisted, ADDRESSES))
WELCOME = next(address for address in ADDRESSES if not is_greylisted(address))


@pytest.fixture
def clock() -> Clock:
    return Clock(100.0)


@pytest_asyncio.fixture
async def sink(clock: Clock) -> AsyncIterator[SmtpSink]:
    sink = SmtpSink(window=5.0, clock=clock)
    yield sink
    await sink.stop()


def test_about_a_third_is_greylisted() -> None:
    assert 75 <= sum(map(is_greylisted, ADDRESSES)) <= 125


async def test_mail_is_kept_in_the_folder(sink: SmtpSink, tmp_path: Path) -> None:
    port = await sink.start(folder=tmp_path / "data" / "mail")
    assert await send(port, WELCOME) == 250
    kept = list(mailbox.Maildir(tmp_path / "data" / "mail"))
    assert [mail["To"] for mail in kept] == [WELCOME]
    assert sink.counts.messages == sink.counts.deliveries[WELCOME] == 1


async def test_a_greylisted_recipient_is_accepted_after_the_window(
    sink: SmtpSink, clock: Clock
) -> None:
    port = await sink.start()
    assert await send(port, GREYLISTED) == 451
    clock.now += 4.9
    assert await send(port, GREYLISTED) == 451
    clock.now += 0.2
    assert await send(port, GREYLISTED) == 250
    assert await send(port, GREYLISTED) == 250
    assert (sink.counts.greylisted, sink.counts.deliveries[GREYLISTED]) == (2, 2)


async def test_nobody_is_refused_for_good(sink: SmtpSink) -> None:
    port = await sink.start()
    assert await send(port, "nobody@example.org") == 550
    assert (sink.counts.refused, sink.counts.messages) == (1, 0)


async def test_a_taken_port_is_an_error(sink: SmtpSink) -> None:
    port = await sink.start()
    with pytest.raises(OSError, match="address already in use"):
        await SmtpSink().start(port=port)


async def send(port: int, recipient: str) -> int:
    message = EmailMessage()
    message["From"], message["To"] = "news@example.org", recipient
    message.set_content("Hello")
    try:
        await aiosmtplib.send(message, hostname="127.0.0.1", port=port)
    except aiosmtplib.SMTPRecipientsRefused as error:
        return error.recipients[0].code
    return 250
