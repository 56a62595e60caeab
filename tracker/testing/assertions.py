"""Compares recorded runs with what a test expects, and says readably what differs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from tracker.core.ids import Ref
from tracker.models.filters import Page
from tracker.models.wire import RunDetail, StepRead
from tracker.store.database import Database
from tracker.store.run_detail import run_detail
from tracker.store.workflows import runs_by_ref


@dataclass(frozen=True)
class ExpectedStep:
    """A step as a test expects it; what is None is not compared.

    Attributes:
        attempts: How many tries it took.
        error_type: Of the step's own error.
    """

    name: str
    status: str = "completed"
    attempts: int | None = None
    error_type: str | None = None
    kind: str | None = None

    def fits(self, step: StepRead) -> bool:
        """Whether a recorded step is as expected."""
        return (
            (step.name, step.status) == (self.name, self.status)
            and self.attempts in (None, step.attempts_count)
            and self.kind in (None, step.kind)
            and self.error_type in (None, step.error.type if step.error else None)
        )


async def runs_of(database: Database, namespace: str, ref: Ref) -> list[RunDetail]:
    """The runs of a ref with steps and attempts, oldest first."""
    overview = await runs_by_ref(database, namespace, ref, Page(limit=100))
    details = [await run_detail(database, namespace, run.run_id) for run in overview.runs]
    return details[::-1]


def assert_runs_match(
    runs: Sequence[RunDetail],
    ref: object,
    workflow_type: str | None,
    status: str,
    steps: Sequence[str | ExpectedStep] | None,
) -> RunDetail:
    """Compare the latest run with what is expected of it; see `TrackedEnvironment.assert_run`."""
    fitting = [run for run in runs if workflow_type in (None, run.workflow_type)]
    if not fitting:
        known = ", ".join(sorted({run.workflow_type for run in runs})) or "none at all"
        raise AssertionError(f"no run of {workflow_type or 'any type'} for {ref}; found: {known}")
    run = fitting[-1]
    if run.status != status:
        raise AssertionError(
            f"expected the run of {ref} to be {status}, it is {run.status}"
            f"{f' ({run.error.type}: {run.error.message})' if run.error else ''}\n{_listing(run)}"
        )
    if steps is not None:
        expected = [ExpectedStep(step) if isinstance(step, str) else step for step in steps]
        fits = len(expected) == len(run.steps) and all(
            step.fits(found) for step, found in zip(expected, run.steps, strict=True)
        )
        if not fits:
            wanted = "\n".join(f"  {step}" for step in expected) or "  none"
            raise AssertionError(f"expected the steps of {ref} to be\n{wanted}\n{_listing(run)}")
    return run


def _listing(run: RunDetail) -> str:
    lines = [
        f"  {step.name} {step.kind} {step.status}, {step.attempts_count} attempt(s)"
        f"{f', {step.error.type}: {step.error.message}' if step.error else ''}"
        for step in run.steps
    ]
    return "recorded steps are\n" + ("\n".join(lines) or "  none")
