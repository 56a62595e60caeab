"""A workflow that keeps what it is told: which signals arrived, in which order, how often."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

from temporalio import workflow
from temporalio.client import Client
from temporalio.worker import UnsandboxedWorkflowRunner, Worker

from tests.starts import QUEUE


@workflow.defn
class Inbox:
    """Ends at the word `end`, and continues as new at `move`; tells all words of its chain."""

    @workflow.init
    def __init__(self, words: list[str]) -> None:
        self._words = words
        self._fresh = 0

    @workflow.run
    async def run(self, words: list[str]) -> list[str]:
        while True:
            await workflow.wait_condition(lambda: len(self._words) > self._fresh)
            word = self._words[self._fresh]
            self._fresh += 1
            if word == "move" and self._fresh == len(self._words):
                workflow.continue_as_new([*self._words, "moved"])
            if word == "end":
                return self._words

    @workflow.signal
    def hear(self, word: str) -> None:
        self._words.append(word)

    @workflow.query
    def words(self) -> list[str]:
        return self._words


@asynccontextmanager
async def a_worker(client: Client) -> AsyncGenerator[Worker]:
    """Serves it, without the plugin."""
    runner = UnsandboxedWorkflowRunner()
    async with Worker(
        client, task_queue=QUEUE, workflows=[Inbox], workflow_runner=runner
    ) as running:
        yield running
