"""What Flowflare's calls do here."""

from __future__ import annotations

import logging
from typing import Any
from uuid import UUID

from api.auth import Caller
from api.deps import Services
from api.flowflare import requests
from api.flowflare.rendering import (
    run_shape,
    tree_filter,
)
from api.flowflare.updates import Updates
from tracker.core.ids import external_run_id
from tracker.core.status import RunStatus
from tracker.errors import (
    InvalidRequest,
    NotAllowed,
    NotFound,
    StartRejected,
    UnknownWorkflowType,
)
from tracker.models.external import ReportRun
from tracker.models.wire import StartRun
from tracker.store.external_runs import workflow_of_number
from tracker.store.run_trees import find_tree, list_trees
from tracker.store.workflow_types import WorkflowTypeCatalog
from tracker.temporal.start_service import StartOutcome

logger = logging.getLogger(__name__)


class Flowflare:
    """Flowflare's calls, in one process."""

    def __init__(self, services: Services) -> None:
        self._services = services
        self._catalog = WorkflowTypeCatalog(services.database, services.namespace)
        self.updates = Updates(services.database, services.namespace)

    async def start(self, body: Any, caller: Caller) -> dict[str, Any]:
        """Start on Temporal what its workers know, else keep a run that its owner reports."""
        asked: requests.StartWorkflow = requests.read_body(requests.StartWorkflow, body)
        ref = requests.halves(asked.ref_type, asked.ref_id)
        start = StartRun(
            workflow_type=asked.workflowType,
            input=self._params(asked),
            metadata=asked.metadata,
            **ref,  # pyright: ignore[reportArgumentType]
        )
        caller.restriction.start(start)
        try:
            await self._catalog.resolve(asked.workflowType, has_queue=False)
        except UnknownWorkflowType as unknown:
            run_id = await self._register(asked, caller, unknown)
        else:
            run_id = await self._start(start)
        return {"workflowId": run_id, "ref_id": asked.ref_id, "ref_type": asked.ref_type}

    async def get(self, body: Any, caller: Caller) -> dict[str, Any] | None:
        """One run; None if there is none, or none that the caller may see."""
        asked: requests.GetWorkflow = requests.read_body(requests.GetWorkflow, body)
        return await self._one(asked.workflowId, caller)

    async def list_all(self, body: Any, caller: Caller) -> list[dict[str, Any]]:
        """A page of runs, newest first."""
        asked: requests.ListWorkflows = requests.read_body(requests.ListWorkflows, body)
        return await self._list(caller, asked.status, None, None, asked.limit, asked.offset)

    async def by_ref(self, body: Any, caller: Caller) -> list[dict[str, Any]]:
        """A page of runs of a ref, or of half a ref."""
        asked: requests.WorkflowsByRef = requests.read_body(requests.WorkflowsByRef, body)
        if asked.ref_id is None and asked.ref_type is None:
            raise InvalidRequest("Either ref_id or ref_type must be provided")
        return await self._list(
            caller, asked.status, asked.ref_id, asked.ref_type, asked.limit, asked.offset
        )

    async def query(self, params: Any, caller: Caller) -> list[dict[str, Any]]:
        """By id, else by ref and status."""
        asked: requests.Query = requests.read_body(requests.Query, params)
        if asked.workflowId is not None:
            found = await self._one(asked.workflowId, caller)
            return [] if found is None else [found]
        return await self._list(
            caller, asked.status, asked.ref_id, asked.ref_type, asked.limit, asked.offset
        )

    async def update(self, body: Any, caller: Caller, verbatim: str) -> dict[str, Any]:
        """Take in what an owner reports."""
        update = requests.read_update(body)
        if isinstance(update, requests.RunUpdate):
            return await self._run_update(update, caller, verbatim)
        if isinstance(update, requests.StepUpdate):
            return await self._step_update(update, caller, verbatim)
        # It names its step by an index alone, of no run: what it says, the step's own update said.
        return {"inserted": True, "id": update.workflow_step_id}

    def _params(self, asked: requests.StartWorkflow) -> dict[str, Any]:
        params = asked.params or {}
        merged = self._services.settings.flowflare_ref_in_params
        if asked.workflowType not in merged and "*" not in merged:
            return params
        ref = {"ref_id": asked.ref_id, "ref_type": asked.ref_type}
        return {name: part for name, part in ref.items() if part is not None} | params

    async def _start(self, start: StartRun) -> str:
        result = await self._services.starts.start(start)
        if result.outcome is StartOutcome.REJECTED:
            error = result.run.error
            reason = "" if error is None else error.message or error.type
            raise StartRejected(f"Temporal refuses this start: {reason}")
        return str(result.run.run_id)

    async def _register(
        self, asked: requests.StartWorkflow, caller: Caller, unknown: UnknownWorkflowType
    ) -> str:
        if self._services.settings.flowflare_unknown_types == "reject":
            raise unknown
        logger.warning(
            "no worker knows workflow type %r: the run waits for its owner's reports",
            asked.workflowType,
            extra={"event": "flowflare.external", "near": unknown.details.get("near")},
        )
        told = ReportRun(
            workflow_type=asked.workflowType,
            status=RunStatus.ACCEPTED,
            input=self._params(asked),
            metadata=asked.metadata,
            **requests.halves(asked.ref_type, asked.ref_id),  # pyright: ignore[reportArgumentType]
        )
        reported = await self._services.reporting.run(told, actor=caller.name)
        return str(reported.run.run_id)

    async def _run_update(
        self, update: requests.RunUpdate, caller: Caller, verbatim: str
    ) -> dict[str, Any]:
        reporting = self._services.reporting
        told = requests.run_report(update, None, {})
        await self._check_within(reporting.id_of(told), caller, new=True)
        try:
            reported = await reporting.run(told, actor=caller.name, verbatim=verbatim)
        except NotFound:
            told = await self._new_run(update, caller)
            reported = await reporting.run(told, actor=caller.name, verbatim=verbatim)
        word = "inserted" if reported.inserted else "updated"
        return {word: True, "id": update.id}

    async def _new_run(self, update: requests.RunUpdate, caller: Caller) -> ReportRun:
        number, services = update.workflow_id, self._services
        found = None
        if number is not None:
            found = await workflow_of_number(services.database, services.namespace, number)
        if found is None:
            raise InvalidRequest(
                f"run {update.id!r} is not on record, and workflow_id {number} names no workflow; "
                "start-workflow makes one",
                field="workflow_id",
            )
        workflow_type, ref = found
        halves = {} if ref is None else {"ref_type": ref.ref_type, "ref_id": ref.ref_id}
        told = requests.run_report(update, workflow_type, halves)
        caller.restriction.report(told)
        return told

    async def _step_update(
        self, update: requests.StepUpdate, caller: Caller, verbatim: str
    ) -> dict[str, Any]:
        run_id = external_run_id(self._services.namespace, update.workflow_run_id)
        await self._check_within(run_id, caller)
        told, state = requests.step_report(update)
        step_id, created = await self._services.reporting.step(
            run_id, told, state=state, verbatim=verbatim
        )
        return {"inserted" if created else "updated": True, "id": str(step_id)}

    async def _check_within(self, run_id: UUID, caller: Caller, *, new: bool = False) -> None:
        services = self._services
        try:
            await caller.restriction.check_run(services.database, services.namespace, run_id)
        except NotFound:
            if not new or await self._tree(run_id) is not None:
                raise

    async def _one(self, own_id: str, caller: Caller) -> dict[str, Any] | None:
        run_id = external_run_id(self._services.namespace, own_id)
        try:
            await self._check_within(run_id, caller)
        except NotFound:
            return None
        tree = await self._tree(run_id)
        return None if tree is None else run_shape(tree)

    async def _tree(self, run_id: UUID) -> Any:
        return await find_tree(self._services.database, self._services.namespace, run_id)

    async def _list(
        self,
        caller: Caller,
        status: str | None,
        ref_id: str | None,
        ref_type: str | None,
        limit: int | None,
        offset: int | None,
    ) -> list[dict[str, Any]]:
        if caller.restriction:
            raise NotAllowed(
                f"{caller.name!r} is kept to some runs, and these lists show all; use /v1/runs"
            )
        asked = tree_filter(status, ref_id, ref_type, limit or 20, offset or 0)
        trees = await list_trees(self._services.database, self._services.namespace, asked)
        return [run_shape(tree) for tree in trees]
