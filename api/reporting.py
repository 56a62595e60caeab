"""Takes reports of externally driven runs from the wire into the tables, by the payload policy."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from typing import Any
from uuid import UUID

from tracker.core.events import ExternalRun, Failure
from tracker.core.external import RunReport, StepReport
from tracker.core.ids import external_run_id, new_id
from tracker.core.payloads import (
    Handling,
    PayloadPolicy,
    Role,
    StoredPayload,
    Treatment,
    store_json,
)
from tracker.errors import InvalidRequest
from tracker.models.external import ReportedError, ReportRun, ReportStep
from tracker.store.database import Database
from tracker.store.external_runs import Reported, Sleep, report_run, report_step

VERBATIM_MAX = 65_536
"""Characters of a report that is passed on as it came; a longer one is told in our words."""


@dataclass(frozen=True, slots=True)
class Verbatim:
    """A value with the text in which its owner wrote it, to be given back as it was."""

    value: Any
    text: str


class Reporting:
    """Takes in reports of one namespace."""

    def __init__(self, database: Database, namespace: str, policy: PayloadPolicy) -> None:
        self._database = database
        self._namespace = namespace
        self._policy = policy.resolved(has_codec=False)

    async def run(self, told: ReportRun, *, actor: str, verbatim: str | None = None) -> Reported:
        """Take in a report of a run; see `store.external_runs.report_run` for what it raises.

        Args:
            told: Input and output may be `Verbatim`.
            verbatim: The whole report as it came.
        """
        id_ = self.id_of(told)
        given = "sleep_until" in told.model_fields_set
        return await report_run(
            self._database,
            self._new(told, id_),
            id_,
            lambda run: self._run_report(run, told),
            namespace=self._namespace,
            actor=actor,
            sleep=Sleep(until=told.sleep_until) if given else None,
            verbatim=lambda run: self._keepable(verbatim, run, None),
        )

    async def step(
        self,
        run_id: UUID,
        told: ReportStep,
        *,
        state: str | None = None,
        verbatim: str | None = None,
    ) -> tuple[UUID, bool]:
        """Take in a report of a step; see `store.external_runs.report_step`.

        Args:
            state: Shown of a try that failed.
        """
        return await report_step(
            self._database,
            run_id,
            lambda run: self._step_report(run, told, state),
            namespace=self._namespace,
            verbatim=lambda run: self._keepable(verbatim, run, told.name),
        )

    def id_of(self, told: ReportRun) -> UUID:
        """Our id of the run that is reported; a fresh one where it is not named."""
        if told.run_id is not None:
            return told.run_id
        if told.own_id is not None:
            return external_run_id(self._namespace, told.own_id)
        return new_id()

    def _keepable(self, verbatim: str | None, run: ExternalRun, step: str | None) -> str | None:
        """A report as it came holds values in clear, so it goes the way of these."""
        handling = self._policy.handling(run.workflow_type, step)
        if verbatim is None or not handling.keeps_text or handling.sealer is not None:
            return None
        return verbatim if len(verbatim) <= VERBATIM_MAX else None

    def _new(self, told: ReportRun, id_: UUID) -> ExternalRun | None:
        if told.workflow_type is None:
            if told.run_id is None and told.own_id is None:
                raise InvalidRequest(
                    "a new run needs workflow_type; name one that is on record by own_id or run_id",
                    field="workflow_type",
                )
            return None
        return ExternalRun(
            id=id_,
            namespace=self._namespace,
            workflow_type=told.workflow_type,
            own_id=told.own_id or str(id_),
            ref=told.ref,
        )

    def _run_report(self, run: ExternalRun, told: ReportRun) -> RunReport:
        handling = self._policy.handling(run.workflow_type)
        given = told.model_fields_set
        return RunReport(
            run=replace(run, ref=run.ref or told.ref),
            status=told.status,
            started_at=told.started_at,
            finished_at=told.finished_at,
            metadata=told.metadata if handling.keeps_text else None,
            input=_stored(told.input, handling, "input") if "input" in given else None,
            output=_stored(told.output, handling, "output") if "output" in given else None,
            error=_failure(told.error, handling),
        )

    def _step_report(self, run: ExternalRun, told: ReportStep, state: str | None) -> StepReport:
        handling = self._policy.handling(run.workflow_type, told.name)
        has_output = "output" in told.model_fields_set
        return StepReport(
            run_key=run.id,
            namespace=self._namespace,
            index=told.index,
            name=told.name,
            status=told.status,
            started_at=told.started_at,
            finished_at=told.finished_at,
            next_retry_at=told.next_retry_at,
            attempt=told.attempt,
            max_attempts=told.max_attempts,
            output=_stored(told.output, handling, "output") if has_output else None,
            error=_failure(told.error, handling),
            state=state if handling.keeps_text else None,
        )


def _stored(value: Any, handling: Handling, role: Role) -> StoredPayload | None:
    verbatim = value if isinstance(value, Verbatim) else None
    value = value if verbatim is None else verbatim.value
    # As a Temporal run's: the list of the arguments.
    stored = store_json(_encoded([value] if role == "input" else value), handling, role)
    if verbatim is None or stored is None:
        return stored
    kept = stored.treatment is Treatment.FULL and stored.body is not None
    return replace(stored, data=verbatim.text.encode()) if kept else stored


def _encoded(value: Any) -> bytes:
    try:
        return json.dumps(value, ensure_ascii=False).encode()
    except UnicodeEncodeError:  # Half a character, which JavaScript cuts emojis to.
        return json.dumps(value).encode()


def _failure(error: ReportedError | None, handling: Handling) -> Failure | None:
    if error is None:
        return None
    if not handling.keeps_text:
        return Failure(type=error.type)
    return Failure(type=error.type, message=error.message, stack=error.stack)
