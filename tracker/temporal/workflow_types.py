"""What a worker announces about the workflow types that it serves: queue, aliases, input schema."""

from __future__ import annotations

import inspect
import logging
from collections.abc import Callable, Iterator, Mapping
from typing import Any, cast

from temporalio import workflow
from temporalio.worker import Worker

from tracker.core.events import WorkflowTypeSeen
from tracker.temporal.scope import Selection
from tracker.workflow import tracked_options

logger = logging.getLogger(__name__)


def seen_types(worker: Worker, selection: Selection) -> Iterator[WorkflowTypeSeen]:
    """An event for each tracked workflow type of a worker; dynamic workflows have no name."""
    config = cast("Mapping[str, Any]", worker.config(active_config=True))
    for cls in config.get("workflows") or ():
        # Temporal keeps name and argument types of a workflow class in a private definition.
        definition: Any = workflow._Definition.from_class(cls)  # pyright: ignore[reportAttributeAccessIssue, reportPrivateUsage]
        if definition is None or not selection.takes(definition.name):
            continue
        yield WorkflowTypeSeen(
            namespace=worker.client.namespace,
            name=cast("str", definition.name),
            task_queue=worker.task_queue,
            aliases=tracked_options(cls).aliases,
            input_schema=_input_schema(definition.arg_types, _required(definition.run_fn)),
        )


def _required(run: Callable[..., Any]) -> int:
    """How many arguments a run method needs, itself not counted."""
    _, *parameters = inspect.signature(run).parameters.values()
    return sum(parameter.default is inspect.Parameter.empty for parameter in parameters)


def _input_schema(arg_types: list[type] | None, required: int) -> Mapping[str, Any] | None:
    """JSON Schema of the argument list, as an array with one entry per argument; None where the
    types say nothing or pydantic cannot tell."""
    if arg_types is None:
        return None
    from pydantic import TypeAdapter

    try:
        adapters = [(i, "validation", TypeAdapter(arg)) for i, arg in enumerate(arg_types)]
        schemas, shared = TypeAdapter.json_schemas(cast("Any", adapters))
    except Exception:  # Any class may be a workflow's argument; most failures are its own.
        logger.debug("no input schema for %r", arg_types, exc_info=True)
        return None
    items = [schemas[(i, "validation")] for i in range(len(arg_types))]
    definitions = {"$defs": shared["$defs"]} if "$defs" in shared else {}
    bounds = {"minItems": required, "maxItems": len(items)}
    return {"type": "array", "prefixItems": items, **bounds, **definitions}
