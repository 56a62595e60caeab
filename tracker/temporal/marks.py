"""What the types of workflows and activities mark with `Redact`, for a `PayloadPolicy`.

Give the same policy to everything that writes the tables: workers, reconciler, API and commands
(`FLOWTRAIL_PAYLOAD_POLICY`). They see the same values, and one without the marks would keep them.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator
from inspect import isroutine
from typing import Any

from temporalio.activity import (
    _Definition as ActivityDefinition,  # pyright: ignore[reportPrivateUsage]
)
from temporalio.workflow import (
    _Definition as WorkflowDefinition,  # pyright: ignore[reportPrivateUsage]
)

from tracker.core.payloads import NO_MARKS, Marks, MarksByType, PayloadPolicy, Treatment
from tracker.core.redaction import redaction_of_arguments, redaction_of_result
from tracker.core.status import StepKind
from tracker.errors import ConfigurationError

logger = logging.getLogger(__name__)

_Found = tuple[tuple[StepKind | None, str], Marks]


def marks_of(*defined: Callable[..., Any]) -> MarksByType:
    """What is marked in the signatures of workflows (run, signals, updates) and activities.

    Args:
        defined: Classes with `@workflow.defn` and functions or methods with `@activity.defn`.

    Returns:
        For `PayloadPolicy(marks=…)`; types in which nothing is marked are left out.

    Raises:
        ConfigurationError: Something else was given, or its annotations cannot be resolved.
    """
    return dict(found for one in defined for found in _marked(one))


def check_marks(policy: PayloadPolicy, registered: Iterable[Callable[..., Any]]) -> None:
    """Refuse a worker whose types have marks that its policy does not know.

    Args:
        policy: Resolved; one that keeps no clear values needs no marks.

    Raises:
        ConfigurationError: Such a type; it says what to do.
    """
    treatments = {policy.default, *(rule.treatment for rule in policy.rules)}
    if Treatment.FULL not in treatments:
        return
    for one in registered:
        try:
            marked = [key for key, _ in _marked(one)]
        except ConfigurationError:
            # A worker must start whose types only Temporal can read, or nobody.
            logger.debug("cannot look for marks in %r", one, exc_info=True)
            continue
        unknown = next((name for kind, name in marked if (kind, name) not in policy.marks), None)
        if unknown is not None:
            raise ConfigurationError(
                f"types of {unknown!r} are marked with Redact, and the payload policy does not "
                f"know it: add {getattr(one, '__name__', unknown)} to "
                "PayloadPolicy(marks=marks_of(…)), and give the same policy to API, reconciler "
                "and commands (FLOWTRAIL_PAYLOAD_POLICY)"
            )


def _marked(one: Callable[..., Any]) -> Iterator[_Found]:
    return (found for found in _all(one) if found[1] != NO_MARKS)


def _all(one: Callable[..., Any]) -> Iterator[_Found]:
    run = WorkflowDefinition.from_class(one) if isinstance(one, type) else None
    if run is not None:
        yield from _of_workflow(run)
        return
    activity: Any = ActivityDefinition.from_callable(one)  # pyright: ignore[reportUnknownMemberType]
    if activity is None:
        raise ConfigurationError(
            f"expected a class with @workflow.defn or a function with @activity.defn, got {one!r}"
        )
    if activity.name is not None:
        marks = _read(one)
        yield (StepKind.ACTIVITY, activity.name), marks
        yield (StepKind.LOCAL_ACTIVITY, activity.name), marks


def _of_workflow(definition: Any) -> Iterator[_Found]:
    """A dynamic one, or a dynamic handler, has no name and takes what has no type."""
    if definition.name is None:
        return
    marks = _read(definition.run_fn)
    yield (None, definition.name), marks
    yield (StepKind.CHILD_WORKFLOW, definition.name), marks
    for kind, handlers in (
        (StepKind.SIGNAL, definition.signals),
        (StepKind.UPDATE, definition.updates),
    ):
        for name, handler in handlers.items():
            if name is not None:
                yield (kind, f"{definition.name}.{name}"), _read(handler.fn)


def _read(function: Callable[..., Any]) -> Marks:
    routine = function if isroutine(function) else type(function).__call__
    return Marks(redaction_of_arguments(routine), redaction_of_result(routine))
