"""Workflows and activities of the tests about workers: threads, processes, restarts."""

from __future__ import annotations

import asyncio
import os
import threading
from datetime import timedelta
from typing import Any

from temporalio import activity, workflow

from tracker.activity import NonRetryable, annotate, current_step, progress
from tracker.workflow import Retry, step

SOON = timedelta(seconds=10)


class OutOfPaper(Exception):
    """A plain exception."""


@activity.defn
def print_pages(pages: int, how: str) -> dict[str, Any]:
    """A sync activity, for threads and for processes."""
    here = current_step()
    annotate(pages=pages, attempt=here.attempt)
    for page in range(1, pages + 1):
        progress(page, done=page, total=pages)
    if how == "retry" and here.attempt == 1:
        raise OutOfPaper("tray 2 is empty")
    if how == "refuse":
        raise NonRetryable("no printer", {"tray": 2}, type="NoPrinter")
    return {
        "step": here.name,
        "ref": str(here.ref),
        "run_id": str(here.run_id),
        "in_process": os.getpid(),
        "in_main_thread": threading.current_thread() is threading.main_thread(),
    }


@activity.defn
async def hand_over(word: str) -> None:
    """Is completed by somebody else."""
    annotate(told="nobody hears it")
    activity.raise_complete_async()


@activity.defn
async def echo(word: str) -> str:
    """Returns what it was given."""
    return word


@workflow.defn
class Printing:
    """One sync activity."""

    @workflow.run
    async def run(self, how: str) -> dict[str, Any]:
        return await step(
            print_pages,
            args=[3, how],
            name="print",
            retry=Retry(initial=0.02),
            start_to_close_timeout=SOON,
            heartbeat_timeout=SOON,
        )


@workflow.defn
class HandingOver:
    """One activity that is completed from outside."""

    @workflow.run
    async def run(self) -> str:
        return await step(
            "hand_over",
            "it",
            result_type=str,
            retry=Retry(max_attempts=1),
            start_to_close_timeout=SOON,
        )


@workflow.defn
class Stages:
    """Work before, between and after two waits, so that workers may change in between."""

    def __init__(self) -> None:
        self._stage = 0

    @workflow.run
    async def run(self) -> list[str]:
        first = await step(echo, "first", start_to_close_timeout=SOON)
        second = await step(echo, "second", name="near", local=True, start_to_close_timeout=SOON)
        await workflow.wait_condition(lambda: self._stage > 0)
        third = await step(echo, "third", start_to_close_timeout=SOON)
        fourth = await step(echo, "fourth", name="nearer", local=True, start_to_close_timeout=SOON)
        child = await workflow.execute_child_workflow(Echoing.run, "fifth")
        await workflow.wait_condition(lambda: self._stage > 1)
        return [first, second, third, fourth, child]

    @workflow.signal
    def go_on(self) -> None:
        self._stage += 1


@workflow.defn
class Echoing:
    """Returns what it was given."""

    @workflow.run
    async def run(self, word: str) -> str:
        await asyncio.sleep(0)
        return word


WORKFLOWS = [Printing, HandingOver, Stages, Echoing]
