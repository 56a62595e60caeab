"""A workflow that does what a JSON program says, and activities that note what they saw.

A program is a list of operations, each a dict with `do`:

- `activity`, `local`: a step that fails `fails` times (`how`: `plain`, `typed`, `later`), then
  succeeds or, with `how` `never`, fails for good; at most `limit` attempts.
- `timer`: sleeps `ms`.
- `child`: runs `program` in a child.
- `signal`: waits for one more signal.
- `together`: runs each of `branches`, a program, at the same time.
- `continue`: continues as new with what follows; in the outermost program only.

A step that failed for good ends the run if `fatal`, else the program goes on. Never so in a branch:
a workflow of the SDK that ends beside a local activity of its own repeats its task for ever.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from temporalio import activity, workflow
from temporalio.exceptions import ActivityError, ApplicationError, ChildWorkflowError

from tracker.activity import NonRetryable, RetryAfter
from tracker.workflow import Retry, step

Program = list[dict[str, Any]]
SOON = timedelta(seconds=20)
FIRST_PAUSE = timedelta(milliseconds=10)
LATER = timedelta(milliseconds=25)
RETRY_TYPES = {"plain": "Declined", "typed": "Busy", "later": "RetryAfter", "never": "NonRetryable"}


@dataclass(frozen=True)
class Seen:
    """An attempt that failed, as its activity saw it.

    Attributes:
        pause: Until the next attempt; None: none follows.
    """

    run_key: str
    name: str
    number: int
    error_type: str
    error_message: str
    pause: timedelta | None


SEEN: list[Seen] = []
"""Noted by the activities of this process."""


class Declined(Exception):
    """A plain exception, so that its class name is its type."""


@activity.defn
async def act(name: str, op: dict[str, Any]) -> str:
    """One attempt."""
    number = activity.info().attempt
    never = op["how"] == "never"
    if number > op["fails"] and not never:
        return f"done {name}"
    message = f"{name}: attempt {number}"
    follows = not never and (not op["limit"] or number < op["limit"])
    pause = LATER if op["how"] == "later" else FIRST_PAUSE * 2 ** (number - 1)
    key = str(activity.info().workflow_run_id)
    kind = RETRY_TYPES[op["how"]]
    SEEN.append(Seen(key, name, number, kind, message, pause if follows else None))
    raise _error(op["how"], message)


def _error(how: str, message: str) -> Exception:
    if how == "plain":
        return Declined(message)
    if how == "typed":
        return ApplicationError(message, type="Busy")
    return RetryAfter(message, LATER) if how == "later" else NonRetryable(message)


@workflow.defn
class Interpreter:
    """Runs a program, and returns what each operation gave."""

    def __init__(self) -> None:
        self._signals = 0
        self._taken = 0

    @workflow.signal
    def poke(self) -> None:
        """One more."""
        self._signals += 1

    @workflow.run
    async def run(self, program: Program, path: str) -> list[Any]:
        results: list[Any] = []
        for number, op in enumerate(program):
            if op["do"] == "continue":
                workflow.continue_as_new(args=[program[number + 1 :], f"{path}c"])
            results.append(await self._do(op, f"{path}{number}"))
        return results

    async def _do(self, op: dict[str, Any], path: str) -> Any:
        match op["do"]:
            case "activity" | "local":
                return await _step(op, path)
            case "timer":
                await workflow.sleep(op["ms"] / 1000)
                return "slept"
            case "child":
                return await _child(op, path)
            case "signal":
                self._taken += 1
                wanted = self._taken
                await workflow.wait_condition(lambda: self._signals >= wanted)
                return "poked"
            case _:
                return await asyncio.gather(
                    *(self._branch(b, f"{path}b{n}-") for n, b in enumerate(op["branches"]))
                )

    async def _branch(self, program: Program, path: str) -> list[Any]:
        return [await self._do(op, f"{path}{number}") for number, op in enumerate(program)]


async def _step(op: dict[str, Any], path: str) -> str:
    name = f"{op['do']}-{path}"
    retry = Retry(op["limit"] or None, initial=FIRST_PAUSE)
    try:
        return await step(
            act,
            args=[name, op],
            name=name,
            local=op["do"] == "local",
            retry=retry,
            start_to_close_timeout=SOON,
        )
    # The SDK raises the failure of a local activity bare.
    except (ActivityError, ApplicationError) as error:
        if op["fatal"]:
            raise ApplicationError(f"{name} is fatal", type="Fatal") from error
        return "failed"


async def _child(op: dict[str, Any], path: str) -> Any:
    child_id = f"{workflow.info().workflow_id}/{path}"
    try:
        return await workflow.execute_child_workflow(
            Interpreter.run, args=[op["program"], f"{path}-"], id=child_id
        )
    except ChildWorkflowError as error:
        if op["fatal"]:
            raise ApplicationError(f"child {path} is fatal", type="Fatal") from error
        return "failed"
