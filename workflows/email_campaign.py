"""Sends one mail to each recipient of a campaign, in batches that are tried again on their own.

Start it by the alias `email_campaign` with a ref such as `campaign/spring-2026` and the input
`{"recipients": […], "subject": …, "body": …}`.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from datetime import timedelta

from temporalio import workflow

from tracker.workflow import Retry, set_metadata, step, tracked

with workflow.unsafe.imports_passed_through():
    from activities.email import Batch, BatchResult, EmailActivities, NotSent, Report

BATCH_SIZE = 10
SEND_RETRY = Retry(
    max_attempts=8,
    # Greylisting servers on the Internet want minutes; the local sink wants one second.
    initial=timedelta(seconds=1.5),
    max_interval=timedelta(minutes=5),
    jitter=0.2,
    # A subject with a line break is no better the second time.
    non_retryable=("ValueError",),
)


@dataclass(frozen=True)
class Campaign:
    """What to send, and to whom."""

    recipients: list[str]
    subject: str
    body: str


@dataclass(frozen=True)
class CampaignResult:
    """How many were sent, and who got nothing."""

    sent: int
    not_sent: list[NotSent]


@tracked(alias="email_campaign")
@workflow.defn
class EmailCampaign:
    """validate-recipients → send-emails, one step per batch → report."""

    @workflow.run
    async def run(self, campaign: Campaign) -> CampaignResult:
        """Send the campaign."""
        checked = await step(
            EmailActivities.validate_recipients,
            campaign.recipients,
            name="validate-recipients",
            start_to_close_timeout=timedelta(seconds=30),
        )
        set_metadata(recipients=len(checked.valid))
        batches = await asyncio.gather(
            *(_send(batch) for batch in _batches(campaign, checked.valid))
        )
        result = CampaignResult(
            sent=sum(len(batch.sent) for batch in batches),
            not_sent=[*checked.refused, *(n for b in batches for n in b.refused + b.deferred)],
        )
        await step(
            EmailActivities.send_report,
            Report(_campaign_id(), campaign.subject, result.sent, result.not_sent),
            name="report",
            retry=SEND_RETRY,
            start_to_close_timeout=timedelta(seconds=30),
        )
        return result


async def _send(batch: Batch) -> BatchResult:
    return await step(
        EmailActivities.send_batch,
        batch,
        name="send-emails",
        retry=SEND_RETRY,
        start_to_close_timeout=timedelta(minutes=10),
        heartbeat_timeout=timedelta(seconds=10),
    )


def _batches(campaign: Campaign, recipients: list[str]) -> list[Batch]:
    starts = range(0, len(recipients), BATCH_SIZE)
    return [
        Batch(
            campaign_id=_campaign_id(),
            number=number,
            recipients=recipients[start : start + BATCH_SIZE],
            subject=campaign.subject,
            body=campaign.body,
        )
        for number, start in enumerate(starts, start=1)
    ]


def _campaign_id() -> str:
    # Not the run id: a reset makes a new run, and must not mail anybody twice.
    return workflow.info().workflow_id
