"""Runs that Temporal does not drive: their owner reports what they do."""

from __future__ import annotations

from uuid import UUID

from fastapi import APIRouter, Response

from api.auth import Access
from api.deps import Services, Starting, StartingIn
from api.errors import READS, declared
from api.routing import Route
from tracker.errors import Conflict, NotFound, PayloadTooLarge
from tracker.models.external import ReportedRun, ReportedStep, ReportRun, ReportStep
from tracker.store.run_detail import run_exists

router = APIRouter(prefix="/v1/external/runs", tags=["external"], route_class=Route)
_FAILURES = declared(NotFound, Conflict, PayloadTooLarge, *READS)


@router.post(
    "",
    operation_id="report_run",
    summary="Report what an externally driven run is doing",
    responses={201: {"model": ReportedRun, "description": "The run is new."}} | _FAILURES,
)
async def report_run(access: Starting, report: ReportRun, response: Response) -> ReportedRun:
    """Takes in a run that something else than Temporal drives, or what became of it. Reports count
    in the order in which they arrive, and may be repeated. 409 `conflict`: Temporal drives this
    run, or it has ended: only status `running` reopens it."""
    await permit(access, report)
    reported = await access.services.reporting.run(report, actor=access.caller.name)
    response.status_code = 201 if reported.inserted else 200
    return ReportedRun(**dict(reported.run), created=reported.inserted)


@router.post(
    "/{run_id}/steps",
    operation_id="report_step",
    summary="Report what a step of an externally driven run is doing",
    responses={201: {"model": ReportedStep, "description": "The step is new."}} | _FAILURES,
)
async def report_step(
    access: StartingIn, run_id: UUID, report: ReportStep, response: Response
) -> ReportedStep:
    """A step is one for each (run, index, name), however often it is reported; its failed tries are
    kept one by one."""
    step_id, created = await access.services.reporting.step(run_id, report)
    response.status_code = 201 if created else 200
    return ReportedStep(step_id=step_id, created=created)


async def permit(access: Access[Services], report: ReportRun) -> None:
    """Look whether a caller may report this run: a new one as if it started it, one that is on
    record if it reaches it.

    Raises:
        NotAllowed: It may not.
        NotFound: As for a run that there is none of.
    """
    only, services = access.caller.restriction, access.services
    if not only:
        return
    run_id = report.run_id or services.reporting.id_of(report)
    if not await run_exists(services.database, services.namespace, run_id):
        only.report(report)
        return
    await only.check_run(services.database, services.namespace, run_id)
