"""What runs under load: workflows whose result is known before, with attempts that fail first.

Every attempt notes in a ledger that it began and how it ended, because the suite must know what
happened from somebody else than the tracker. `hold` keeps a run in flight until its gate opens.
"""

from __future__ import annotations

import asyncio
import json
import os
from dataclasses import asdict, dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

from temporalio import activity, workflow
from temporalio.common import RetryPolicy
from temporalio.exceptions import ActivityError, ApplicationError

from tracker.activity import annotate

LEDGER = ".jsonl"
"""A file for each run, small enough for the smallest disk."""
FAILS_FOR_GOOD = 3
"""Attempts of a step that never succeeds."""
SOON = timedelta(seconds=60)
QUICKLY = RetryPolicy(initial_interval=timedelta(milliseconds=30), backoff_coefficient=1.0)
GIVES_UP = RetryPolicy(
    initial_interval=timedelta(milliseconds=30),
    backoff_coefficient=1.0,
    maximum_attempts=FAILS_FOR_GOOD,
)
SILENCE = timedelta(seconds=1)
"""Without a heartbeat for so long, an attempt is given up: its worker is dead."""


@dataclass(frozen=True)
class Job:
    """One run.

    Attributes:
        number: Decides what happens in it.
        folder: Where its ledger is.
        gate: File that lets it go on; empty: nothing holds it.
    """

    number: int
    folder: str
    gate: str = ""


@dataclass(frozen=True)
class Note:
    """An attempt, as it saw itself.

    Attributes:
        pid: Process that it ran in.
        outcome: `began`, `completed` or `failed`.
        error: Message of the failure.
    """

    run_key: str
    step: str
    attempt: int
    pid: int
    outcome: str
    error: str | None = None


def result_of(number: int) -> dict[str, Any] | None:
    """What the run with this number returns; None: it fails."""
    if number % 5 == 4:
        return None
    parts = [f"warm-{number}", f"held-{number}"]
    parts += [f"local-{number}"] if number % 3 == 1 else []
    parts += [f"child-{number}"] if number % 4 == 2 else []
    return {"number": number, "parts": parts}


def read_ledger(folder: Path) -> list[Note]:
    """Everything noted so far; a line that a killed worker left unfinished is no note."""
    lines = [line for path in folder.glob(f"*{LEDGER}") for line in path.read_text().splitlines()]
    return [Note(**json.loads(line)) for line in lines if line.endswith("}")]


@activity.defn
async def warm(job: Job) -> str:
    """Fails up to two times first."""
    return _attempted(job, "warm", fails=job.number % 3)


@activity.defn
async def hold(job: Job) -> str:
    """Waits until the gate is open."""
    _note(job, "began")
    while job.gate and not os.path.exists(job.gate):  # noqa: ASYNC240 - takes no time.
        activity.heartbeat()
        await asyncio.sleep(0.02)
    _note(job, "completed")
    return f"held-{job.number}"


@activity.defn
async def local(job: Job) -> str:
    """Runs in the workflow's own worker."""
    return f"local-{job.number}"


@activity.defn
async def give_up(job: Job) -> str:
    """Fails at each attempt."""
    return _attempted(job, "give-up", fails=FAILS_FOR_GOOD)


@workflow.defn
class FaultChild:
    """One more run under the first."""

    @workflow.run
    async def run(self, number: int) -> str:
        await workflow.sleep(0.02)
        return f"child-{number}"


@workflow.defn
class FaultRun:
    """Steps of every kind around one that holds it in flight."""

    @workflow.run
    async def run(self, job: Job) -> dict[str, Any]:
        parts = [await _step(warm, job), await _step(hold, job, heartbeat_timeout=SILENCE)]
        if job.number % 3 == 1:
            parts.append(
                await workflow.execute_local_activity(local, job, start_to_close_timeout=SOON)
            )
        await workflow.sleep(0.02)
        if job.number % 4 == 2:
            child = f"{workflow.info().workflow_id}/child"
            parts.append(
                await workflow.execute_child_workflow(FaultChild.run, job.number, id=child)
            )
        if job.number % 5 == 4:
            await self._fail(job)
        return {"number": job.number, "parts": parts}

    async def _fail(self, job: Job) -> None:
        try:
            await _step(give_up, job, retry_policy=GIVES_UP)
        except ActivityError as error:
            raise ApplicationError(f"gave up {job.number}", type="GaveUp") from error


WORKFLOWS = [FaultRun, FaultChild]
ACTIVITIES = [warm, hold, local, give_up]


async def _step(step: Any, job: Job, **options: Any) -> str:
    given = {"start_to_close_timeout": SOON, "retry_policy": QUICKLY} | options
    return await workflow.execute_activity(step, job, **given)


def _attempted(job: Job, what: str, fails: int) -> str:
    _note(job, "began")
    attempt = activity.info().attempt
    if attempt <= fails:
        error = f"{what} {job.number}: attempt {attempt}"
        _note(job, "failed", error)
        raise ApplicationError(error, type="Flaky")
    annotate(ledger=job.number)
    _note(job, "completed")
    return f"{what}-{job.number}"


def _note(job: Job, outcome: str, error: str | None = None) -> None:
    info = activity.info()
    about = (str(info.workflow_run_id), info.activity_type, info.attempt, os.getpid())
    note = Note(*about, outcome, error)
    # One write to a file opened for appending: lines of several processes never mix.
    name = f"{note.run_key}{LEDGER}"
    path = os.open(Path(job.folder) / name, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    try:
        os.write(path, json.dumps(asdict(note)).encode() + b"\n")
    finally:
        os.close(path)
