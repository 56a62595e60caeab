"""What the interceptors of one worker share: its recorder, its identity, and what may be recorded.

A scope exists from the worker's construction; it records only while the worker runs. Interceptors
find it by closure (workflows) or by context variable (activities, whose tasks the worker starts).
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from contextvars import ContextVar
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import Any

from temporalio.converter import PayloadConverter

from tracker.core.events import TrackerEvent
from tracker.core.ids import Ref
from tracker.core.payloads import Handling, PayloadPolicy, StoredPayload, Treatment
from tracker.recorder.recorder import Recorder
from tracker.temporal.payloads import stored_input_from_values, stored_output_from_value
from tracker.temporal.server_clock import ServerClock

logger = logging.getLogger(__name__)

OWN_WORKFLOWS = "flowtrail."
"""Prefix of our own system workflows; they are never tracked."""

RefRules = Callable[[str, str], Ref | None]
"""(workflow type, workflow id) → ref; what input and search attributes say comes from history."""


@dataclass(frozen=True, slots=True)
class Selection:
    """Which workflow types are tracked: shell patterns; `exclude` beats `include`."""

    include: tuple[str, ...] = ("*",)
    exclude: tuple[str, ...] = ()

    def takes(self, workflow_type: str | None) -> bool:
        """Whether runs of this type are tracked."""
        if workflow_type is None or workflow_type.startswith(OWN_WORKFLOWS):
            return False
        if any(fnmatchcase(workflow_type, pattern) for pattern in self.exclude):
            return False
        return any(fnmatchcase(workflow_type, pattern) for pattern in self.include)


@dataclass(slots=True)
class WorkerScope:
    """Facts of one worker, and the way to its recorder.

    Attributes:
        recorder: Set while the worker runs; without it nothing is recorded.
        policy: Resolved (`PayloadPolicy.resolved`).
    """

    namespace: str
    task_queue: str
    worker_identity: str
    build_id: str | None
    policy: PayloadPolicy
    payload_converter: PayloadConverter
    has_codec: bool = False
    selection: Selection = field(default_factory=Selection)
    ref_rules: RefRules | None = None
    recorder: Recorder | None = None
    clock: ServerClock = field(default_factory=ServerClock)
    _warned: bool = False

    def records(self, workflow_type: str | None) -> bool:
        """Whether facts about runs of this type are recorded now."""
        return self.recorder is not None and self.selection.takes(workflow_type)

    def record(self, event: TrackerEvent) -> None:
        """Hand an event to the recorder, if the worker still runs."""
        if self.recorder is not None:
            self.recorder.record(event)

    def stored_input(self, values: Sequence[Any], handling: Handling) -> StoredPayload | None:
        """An argument list in the form in which it is stored."""
        if self._digests_are_of_encoded(handling):
            return None
        return stored_input_from_values(values, self.payload_converter, handling)

    def stored_output(self, value: Any, handling: Handling) -> StoredPayload | None:
        """A result in the form in which it is stored."""
        if self._digests_are_of_encoded(handling):
            return None
        return stored_output_from_value(value, self.payload_converter, handling)

    def refusal(self, value: Any, stored: StoredPayload | None) -> Exception | None:
        """Why Temporal will not take a result, which makes its owner fail after all.

        Args:
            stored: From `stored_output`; a result that could be stored is converted no second time.
        """
        if value is None or stored is not None:
            return None
        try:
            self.payload_converter.to_payloads([value])
        except Exception as error:
            return error
        return None

    def _digests_are_of_encoded(self, handling: Handling) -> bool:
        # History digests what the codec made, which a worker never sees.
        return self.has_codec and handling.treatment is Treatment.DIGEST

    def failed(self, what: str) -> None:
        """Note that tracking itself failed, once per worker; the workflow goes on unharmed."""
        if not self._warned:
            self._warned = True
            logger.exception("tracking failed: %s", what, extra={"event": "tracking.failed"})


current_scope: ContextVar[WorkerScope | None] = ContextVar("flowtrail_worker_scope", default=None)
