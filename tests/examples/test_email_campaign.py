"""The e-mail example on real recipients, a real SMTP server that greylists, and a real Temporal."""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import AsyncGenerator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import aiosmtplib
import pytest
from aiosmtpd.smtp import SMTP, Envelope, Session
from temporalio.client import Client, WorkflowHandle
from temporalio.common import RetryPolicy
from temporalio.exceptions import ApplicationError
from temporalio.testing import ActivityEnvironment
from temporalio.worker import Replayer, Worker

from activities.email import Batch, EmailActivities, MailServer
from tests.clock import Clock
from tracker.workflow import tracked_options
from workers.smtp_sink import SmtpSink, is_greylisted
from workflows.email_campaign import Campaign, CampaignResult, EmailCampaign

RECIPIENTS = Path(__file__).parents[2] / "examples" / "recipients.csv"
SENDER = "news@example.org"
WELCOME = [f"u{n}@example.com" for n in range(60) if not is_greylisted(f"u{n}@example.com")]
GREYLISTED = [f"u{n}@example.com" for n in range(60) if is_greylisted(f"u{n}@example.com")]


async def test_campaign_reaches_everybody_once(temporal_client: Client) -> None:
    with RECIPIENTS.open(newline="") as file:
        recipients = [row["address"] for row in csv.DictReader(file)]
    sink = SmtpSink(window=0.5)
    async with serving(sink) as activities, worker(temporal_client, activities):
        handle = await temporal_client.start_workflow(
            EmailCampaign.run,
            Campaign(recipients, "Hello", "Good news."),
            id=f"campaign-{uuid4()}",
            task_queue="email",
            execution_timeout=timedelta(seconds=40),
        )
        result = await handle.result()

    assert result.sent == len(sink.counts.deliveries.keys() - {SENDER}) == 37
    assert [(n.address, n.reason[:20]) for n in result.not_sent] == [
        ("Ada.Lovelace@Example.com", "listed more than onc"),
        ("grace.hopper@@example.org", "The part after the @"),
        ("nobody@example.net", "550 5.1.1 No such ma"),
    ]
    assert set(sink.counts.deliveries.values()) == {1}
    attempts = await attempts_by_activity(handle)
    assert attempts["validate_recipients"] == [1]
    assert len(attempts["send_batch"]) == 4
    assert max(attempts["send_batch"]) > 1
    await Replayer(workflows=[EmailCampaign]).replay_workflow(await handle.fetch_history())


async def test_a_retry_serves_only_those_whom_no_attempt_has_served() -> None:
    clock = Clock()
    sink = SmtpSink(clock=clock)
    batch = batch_of([*WELCOME[:3], *GREYLISTED[:2], "nobody@example.com"])
    first = attempt()
    beats = collect_heartbeats(first)
    async with serving(sink) as activities:
        with pytest.raises(ApplicationError, match=r"2 of 6 deferred: 451") as failed:
            await first.run(activities.send_batch, batch)
        clock.now += 60
        second = attempt(number=2, heartbeat_details=beats[-1])
        result = await second.run(activities.send_batch, batch)

    assert failed.value.type == "RecipientsDeferred"
    assert result.sent == [*WELCOME[:3], *GREYLISTED[:2]]
    assert [refused.address for refused in result.refused] == ["nobody@example.com"]
    assert sink.counts.deliveries == Counter(result.sent)


async def test_the_last_attempt_reports_who_is_still_deferred() -> None:
    async with serving(SmtpSink()) as activities:
        result = await attempt(number=3).run(activities.send_batch, batch_of(GREYLISTED[:2]))
    assert result.sent == []
    assert [deferred.address for deferred in result.deferred] == GREYLISTED[:2]


async def test_a_broken_connection_fails_the_attempt_and_keeps_what_was_done() -> None:
    sink = HangingUpSink(after=2)
    batch = batch_of(WELCOME[:5])
    first = attempt()
    beats = collect_heartbeats(first)
    async with serving(sink) as activities:
        with pytest.raises(aiosmtplib.SMTPServerDisconnected):
            await first.run(activities.send_batch, batch)
        sink.after = 100
        second = attempt(number=2, heartbeat_details=beats[-1])
        result = await second.run(activities.send_batch, batch)

    assert result.sent == WELCOME[:5]
    assert sink.counts.deliveries == Counter(WELCOME[:5])


def test_recipients_are_normalized_and_counted_once() -> None:
    addresses = ["A@Example.com", "a@example.COM", "b@example.com", "not an address"]
    checked = EmailActivities(MailServer("", 0, SENDER)).validate_recipients(addresses)
    assert checked.valid == ["A@example.com", "b@example.com"]
    assert [refused.address for refused in checked.refused] == ["a@example.COM", "not an address"]


def test_it_has_the_alias_by_which_older_callers_start_it() -> None:
    assert tracked_options(EmailCampaign).aliases == ("email_campaign",)


class HangingUpSink(SmtpSink):
    """Breaks the connection instead of answering, once it has taken some mails."""

    def __init__(self, after: int) -> None:
        super().__init__()
        self.after = after

    async def handle_DATA(self, server: SMTP, session: Session, envelope: Envelope) -> str:
        if self.counts.messages < self.after:
            return await super().handle_DATA(server, session, envelope)
        assert server.transport is not None
        server.transport.close()
        return "421 4.3.2 Bye"


@asynccontextmanager
async def serving(sink: SmtpSink) -> AsyncGenerator[EmailActivities]:
    try:
        yield EmailActivities(MailServer("127.0.0.1", await sink.start(), SENDER))
    finally:
        await sink.stop()


@asynccontextmanager
async def worker(client: Client, activities: EmailActivities) -> AsyncGenerator[None]:
    functions = [activities.validate_recipients, activities.send_batch, activities.send_report]
    with ThreadPoolExecutor(2) as threads:
        async with Worker(
            client,
            task_queue="email",
            workflows=[EmailCampaign],
            activities=functions,
            activity_executor=threads,
        ):
            yield


def batch_of(recipients: list[str]) -> Batch:
    return Batch("campaign-1", 1, recipients, "Hello", "Good news.")


def attempt(number: int = 1, heartbeat_details: Any = ()) -> ActivityEnvironment:
    environment = ActivityEnvironment()
    environment.info = replace(
        environment.info,
        attempt=number,
        heartbeat_details=heartbeat_details,
        retry_policy=RetryPolicy(maximum_attempts=3),
        schedule_to_close_timeout=None,
    )
    return environment


def collect_heartbeats(environment: ActivityEnvironment) -> list[tuple[Any, ...]]:
    beats: list[tuple[Any, ...]] = []
    environment.on_heartbeat = lambda *details: beats.append(details)
    return beats


async def attempts_by_activity(handle: WorkflowHandle[Any, CampaignResult]) -> dict[str, list[int]]:
    scheduled: dict[int, str] = {}
    attempts: dict[str, list[int]] = {}
    async for event in handle.fetch_history_events():
        if event.HasField("activity_task_scheduled_event_attributes"):
            details = event.activity_task_scheduled_event_attributes
            scheduled[event.event_id] = details.activity_type.name
        if event.HasField("activity_task_started_event_attributes"):
            started = event.activity_task_started_event_attributes
            name = scheduled[started.scheduled_event_id]
            attempts.setdefault(name, []).append(started.attempt)
    return attempts
