"""Decodes, before the projection, those payloads of a history that are behind a codec and that the
projection may show in clear: our own memo field and headers, and values that the policy keeps.

Decoding is asynchronous and may call a key service; the projection is neither. So it is run once
for nothing, to learn which payloads it asks for.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from uuid import UUID

from temporalio.api.common.v1 import Payload
from temporalio.api.enums.v1 import EventType
from temporalio.api.history.v1 import HistoryEvent
from temporalio.converter import PayloadCodec

from tracker.core.headers import HEADER
from tracker.core.memo import MEMO_FIELD
from tracker.core.payloads import PayloadPolicy
from tracker.temporal.history.projection import project
from tracker.temporal.history.runs import RefRules
from tracker.temporal.history.state import Clear
from tracker.temporal.payloads import json_of

logger = logging.getLogger(__name__)


async def clear_payloads(
    history: Sequence[HistoryEvent],
    codec: PayloadCodec,
    *,
    namespace: str,
    workflow_id: str,
    run_key: UUID,
    policy: PayloadPolicy,
    ref_rules: RefRules | None = None,
) -> Clear:
    """Decode what `project` will want in clear.

    Args:
        codec: Of the namespace's data converter.

    Returns:
        For `project(clear=…)`, called with the same arguments. What cannot be decoded is absent
        there, and so from the tables; nothing is raised.
    """
    decoder = _Decoder(codec)
    for payload in _own_payloads(history):
        decoder.clear([payload])
    await decoder.decode_wanted()
    project(
        history,
        namespace=namespace,
        workflow_id=workflow_id,
        run_key=run_key,
        policy=policy,
        projected_at=datetime.min.replace(tzinfo=UTC),
        clear=decoder.clear,
        ref_rules=ref_rules,
    )
    await decoder.decode_wanted()
    return decoder.clear


_Key = tuple[bytes, ...]


class _Decoder:
    def __init__(self, codec: PayloadCodec) -> None:
        self._codec = codec
        self._known: dict[_Key, Sequence[Payload] | None] = {}
        self._wanted: dict[_Key, Sequence[Payload]] = {}

    def clear(self, payloads: Sequence[Payload]) -> Sequence[Payload] | None:
        """The payloads as they were before the codec; of those not decoded yet, None."""
        key = tuple(payload.SerializeToString(deterministic=True) for payload in payloads)
        if key not in self._known:
            self._wanted[key] = payloads
            return None
        return self._known[key]

    async def decode_wanted(self) -> None:
        wanted, self._wanted = self._wanted, {}
        for key, payloads in wanted.items():
            try:
                # A codec may join payloads, so those of one list go together.
                self._known[key] = await self._codec.decode(payloads)
            except Exception:
                self._known[key] = None
                logger.warning(
                    "a payload could not be decoded and is left out",
                    exc_info=True,
                    extra={"event": "payload.undecodable"},
                )


def _own_payloads(history: Sequence[HistoryEvent]) -> Iterator[Payload]:
    for event in history:
        payload = _own_payload(event)
        if payload is not None and json_of(payload) is None:
            yield payload


def _own_payload(event: HistoryEvent) -> Payload | None:
    """What the event carries that the policy cannot be applied without: ref, step name."""
    match event.event_type:
        case EventType.EVENT_TYPE_WORKFLOW_EXECUTION_STARTED:
            started = event.workflow_execution_started_event_attributes
            return started.memo.fields.get(MEMO_FIELD)
        case EventType.EVENT_TYPE_WORKFLOW_PROPERTIES_MODIFIED:
            modified = event.workflow_properties_modified_event_attributes
            return modified.upserted_memo.fields.get(MEMO_FIELD)
        case EventType.EVENT_TYPE_ACTIVITY_TASK_SCHEDULED:
            scheduled = event.activity_task_scheduled_event_attributes
            return scheduled.header.fields.get(HEADER)
        case EventType.EVENT_TYPE_MARKER_RECORDED:
            return event.user_metadata.summary if event.HasField("user_metadata") else None
        case _:
            return None
