"""`RefType` and `RefId` as search attributes of runs that the facade starts, where a namespace has
them. Temporal refuses a start with an attribute that is not registered, so this looks first."""

from __future__ import annotations

import time
from datetime import timedelta

from temporalio.api.enums.v1 import IndexedValueType
from temporalio.api.operatorservice.v1 import ListSearchAttributesRequest
from temporalio.api.workflowservice.v1 import StartWorkflowExecutionRequest
from temporalio.client import Client
from temporalio.common import SearchAttributeKey, SearchAttributePair, TypedSearchAttributes
from temporalio.converter import encode_search_attributes
from temporalio.service import RPCError

from tracker.core.ids import Ref

REF_TYPE = SearchAttributeKey.for_keyword("RefType")
REF_ID = SearchAttributeKey.for_keyword("RefId")

RECHECK_AFTER = 60.0
"""Seconds for which an answer of Temporal's counts."""


class RefSearchAttributes:
    """Adds the attributes to starts of a client's namespace, once they were seen there."""

    def __init__(self, client: Client, *, recheck_after: float = RECHECK_AFTER) -> None:
        self._client = client
        self._recheck_after = recheck_after
        self._registered = False
        self._checked_at: float | None = None

    async def add(
        self, request: StartWorkflowExecutionRequest, ref: Ref | None, *, seconds: float
    ) -> bool:
        """Add them to a start.

        Returns:
            Whether they were added.
        """
        if ref is None or not await self._are_registered(seconds):
            return False
        pairs = [
            SearchAttributePair(REF_TYPE, ref.ref_type),
            SearchAttributePair(REF_ID, ref.ref_id),
        ]
        encode_search_attributes(TypedSearchAttributes(pairs), request.search_attributes)
        return True

    def forget(self) -> None:
        """Look again before the next start: Temporal did not know them."""
        self._checked_at = None

    async def _are_registered(self, seconds: float) -> bool:
        now = time.monotonic()
        if self._checked_at is None or now - self._checked_at > self._recheck_after:
            self._registered = await self._look(seconds)
            self._checked_at = now
        return self._registered

    async def _look(self, seconds: float) -> bool:
        request = ListSearchAttributesRequest(namespace=self._client.namespace)
        try:
            answer = await self._client.operator_service.list_search_attributes(
                request, retry=False, timeout=timedelta(seconds=seconds)
            )
        except RPCError:  # Not everybody may ask; the start itself tells whether Temporal is there.
            return False
        keyword = IndexedValueType.INDEXED_VALUE_TYPE_KEYWORD
        return all(answer.custom_attributes.get(key.name) == keyword for key in (REF_TYPE, REF_ID))
