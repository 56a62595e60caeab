"""Checks addresses and sends mails over SMTP.

SMTP cannot send "exactly once": if the connection breaks after the server took a mail but before
its reply came back, the retry sends it again, under the same Message-ID. In every other case the
heartbeat tells the next attempt who has been served.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from email.message import EmailMessage
from hashlib import sha256

import aiosmtplib
from email_validator import EmailNotValidError, validate_email
from temporalio import activity
from temporalio.exceptions import ApplicationError

from tracker.activity import annotate, current_step, progress


@dataclass(frozen=True)
class MailServer:
    """Where mails are handed in, and whose they are."""

    host: str
    port: int
    sender: str


@dataclass(frozen=True)
class NotSent:
    """One recipient who gets no mail, and why."""

    address: str
    reason: str


@dataclass(frozen=True)
class Recipients:
    """Who can be written to; `refused` are malformed addresses and repetitions."""

    valid: list[str]
    refused: list[NotSent]


@dataclass(frozen=True)
class Batch:
    """Some recipients of one campaign. `campaign_id` makes the Message-IDs repeatable."""

    campaign_id: str
    number: int
    recipients: list[str]
    subject: str
    body: str


@dataclass
class BatchResult:
    """What became of a batch, or so far; `deferred` may still be served by a later attempt."""

    sent: list[str] = field(default_factory=list[str])
    refused: list[NotSent] = field(default_factory=list[NotSent])
    deferred: list[NotSent] = field(default_factory=list[NotSent])

    def settled(self) -> set[str]:
        """Recipients with whom nothing is left to do."""
        return {*self.sent, *(refused.address for refused in self.refused)}


@dataclass(frozen=True)
class Report:
    """A campaign's outcome, for its sender."""

    campaign_id: str
    subject: str
    sent: int
    not_sent: list[NotSent]


class EmailActivities:
    """Activities around one mail server."""

    def __init__(self, server: MailServer) -> None:
        self._server = server

    @activity.defn
    def validate_recipients(self, addresses: list[str]) -> Recipients:
        """Sort out malformed addresses and repetitions; no DNS."""
        valid: dict[str, str] = {}
        refused: list[NotSent] = []
        for address in addresses:
            try:
                normalized = validate_email(address, check_deliverability=False).normalized
            except EmailNotValidError as error:
                refused.append(NotSent(address, str(error)))
                continue
            if normalized.casefold() in valid:
                refused.append(NotSent(address, "listed more than once"))
            else:
                valid[normalized.casefold()] = normalized
        return Recipients(list(valid.values()), refused)

    @activity.defn
    async def send_batch(self, batch: Batch) -> BatchResult:
        """Send one mail to each recipient whom no earlier attempt has served.

        If some are deferred (4xx), the attempt fails once the others are served, so that the step
        is tried again for the rest; its last attempt reports them instead.
        """
        annotate(batch=batch.number)
        result = _so_far()
        settled = result.settled()
        async with self._connection() as smtp:
            for address in batch.recipients:
                if address in settled:
                    continue
                message_id = _message_id(batch.campaign_id, address)
                message = self._message(address, batch.subject, batch.body, message_id)
                _sort_in(result, address, await _send(smtp, message))
                progress(asdict(result), done=len(result.settled()), total=len(batch.recipients))
        if result.deferred and not current_step().is_last_attempt:
            raise ApplicationError(_summary(result), type="RecipientsDeferred")
        return result

    @activity.defn
    async def send_report(self, report: Report) -> None:
        """Mail the outcome to the campaign's sender."""
        lines = [
            f"{report.sent} mails sent.",
            *(f"{n.address}: {n.reason}" for n in report.not_sent),
        ]
        sender = self._server.sender
        message_id = _message_id(report.campaign_id, "report")
        message = self._message(sender, f"Report: {report.subject}", "\n".join(lines), message_id)
        async with self._connection() as smtp:
            reply = await _send(smtp, message)
        if reply is not None:
            raise ApplicationError(reply, type="ReportRefused")

    def _connection(self) -> aiosmtplib.SMTP:
        return aiosmtplib.SMTP(hostname=self._server.host, port=self._server.port)

    def _message(self, to: str, subject: str, body: str, message_id: str) -> EmailMessage:
        message = EmailMessage()
        message["From"], message["To"], message["Subject"] = self._server.sender, to, subject
        message["Message-ID"] = message_id
        message.set_content(body)
        return message


def _so_far() -> BatchResult:
    details = current_step().heartbeat_details
    if not details:
        return BatchResult()
    return BatchResult(details[0]["sent"], [NotSent(**item) for item in details[0]["refused"]])


def _message_id(campaign_id: str, purpose: str) -> str:
    return f"<{sha256(f'{campaign_id}/{purpose}'.encode()).hexdigest()[:32]}@flowtrail.example>"


async def _send(smtp: aiosmtplib.SMTP, message: EmailMessage) -> str | None:
    """None if the server took the mail, else its reply, e.g. `451 4.7.1 Greylisted`."""
    try:
        await smtp.send_message(message)
    except aiosmtplib.SMTPRecipientsRefused as error:
        refused = error.recipients[0]
        return f"{refused.code} {refused.message}"
    except aiosmtplib.SMTPResponseException as error:
        return f"{error.code} {error.message}"
    return None


def _sort_in(result: BatchResult, address: str, reply: str | None) -> None:
    if reply is None:
        result.sent.append(address)
    elif reply.startswith("4"):
        result.deferred.append(NotSent(address, reply))
    else:
        result.refused.append(NotSent(address, reply))


def _summary(result: BatchResult) -> str:
    count = len(result.deferred)
    return f"{count} of {count + len(result.settled())} deferred: {result.deferred[0].reason}"
