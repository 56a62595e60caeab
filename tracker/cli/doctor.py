"""`flowtrail doctor`: looks at all that this host's settings lead to, and says what to do."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import asdict

import typer

from tracker.cli.output import JsonFlag, write_json, write_table
from tracker.cli.settings import CliSettings, load_settings, temporal_namespace
from tracker.core.diagnosis import Finding, Health, failed, ok, skipped, warning
from tracker.errors import ApiUnavailable, TrackerError
from tracker.migrations.roles import API, READER, WRITER
from tracker.models.stats import Stats
from tracker.recorder.options import default_spill_dir
from tracker.store.database import Database, DatabaseOptions
from tracker.store.diagnosis import diagnose
from tracker.store.stats import read_stats

ROLES = {"flowtrail_writer": WRITER, "flowtrail_api": API, "flowtrail_reader": READER}
ROUND_WITHIN = 60.0
WAITING_WITHIN = 120.0
"""As the shipped alerts have it."""


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("doctor")(doctor)


def doctor(json: JsonFlag = False) -> None:
    """Look at settings, database, Temporal and API, as this host sees them, and say what to do.

    Changes nothing. Exit code 1 if a check failed; warnings do not count.
    """
    findings = asyncio.run(_findings())
    if json:
        write_json({"findings": [asdict(finding) for finding in findings]})
    else:
        write_table(
            ["CHECK", "", "FOUND", "WHAT TO DO"],
            [(one.check, one.health, one.found, one.fix) for one in findings],
            empty="",
        )
    if any(one.health is Health.FAILED for one in findings):
        raise typer.Exit(1)


async def _findings() -> list[Finding]:
    settings = load_settings()
    found = [finding async for finding in _database(settings)]
    found += [finding async for finding in _temporal(settings)]
    found.append(await asyncio.to_thread(_api, settings))
    found.append(_spill())
    return found


async def _database(settings: CliSettings) -> AsyncIterator[Finding]:
    if settings.database_url is None:
        yield failed(
            "database",
            "FLOWTRAIL_DATABASE_URL is not set",
            "set it, or let `flowtrail init` write it into .env",
        )
        return
    try:
        options = settings.database_options(readable=True)
    except TrackerError as error:
        yield failed("settings", error.message, "correct the setting")
        return
    migrated = False
    async for finding in diagnose(options, ROLES):
        migrated |= finding.check == "schema" and finding.health is Health.OK
        yield finding
    if migrated:
        async for finding in _progress(options):
            yield finding


async def _progress(options: DatabaseOptions) -> AsyncIterator[Finding]:
    try:
        async with Database(options, max_connections=1) as database:
            stats = await read_stats(database, temporal_namespace())
    except TrackerError as error:
        yield skipped("reconciler", error.message)
        return
    yield _reconciler(stats)
    yield _outbox(stats)


def _reconciler(stats: Stats) -> Finding:
    since = stats.reconciler.since_round_seconds
    if since is None or since > ROUND_WITHIN:
        seen = "has never run" if since is None else f"was last seen {since:.0f} s ago"
        return warning(
            "reconciler",
            f"it {seen} in namespace {stats.namespace}",
            "run `flowtrail worker`, or a Reconciler in one of your workers (docs/deployment.md)",
        )
    return ok("reconciler", f"its last round was {since:.0f} s ago")


def _outbox(stats: Stats) -> Finding:
    outbox = stats.outbox
    if outbox.dead:
        return warning(
            "outbox", f"{outbox.dead} entries are dead", "look at `flowtrail outbox list --dead`"
        )
    if outbox.oldest_seconds is not None and outbox.oldest_seconds > WAITING_WITHIN:
        return warning(
            "outbox",
            f"an entry has waited for {outbox.oldest_seconds:.0f} s",
            "look whether Temporal answers, and whether an API or a worker relays",
        )
    return ok("outbox", f"{outbox.size} entries wait")


async def _temporal(settings: CliSettings) -> AsyncIterator[Finding]:
    from tracker.temporal.connection import connect  # temporalio: 0.3 s of every other command.
    from tracker.temporal.diagnosis import diagnose_temporal

    try:
        client = await connect(settings.data_converter)
    except (TrackerError, ValueError, RuntimeError, OSError) as error:
        yield failed("temporal", str(error), "correct the profile, or FLOWTRAIL_DATA_CONVERTER")
        return
    async for finding in diagnose_temporal(client):
        yield finding


def _api(settings: CliSettings) -> Finding:
    try:
        with settings.client() as client:
            health = client.ready()
    except ApiUnavailable as error:
        return warning("api", error.message, "start it, or set FLOWTRAIL_API_URL, if you use one")
    except TrackerError as error:
        return failed("api", error.message, "see its log; /readyz tells the same")
    return ok("api", f"{settings.api_url}: {health.status}")


def _spill() -> Finding:
    folder = default_spill_dir()
    waiting = list(folder.glob("*.spill")) if folder.is_dir() else []
    if waiting:
        size = sum(file.stat().st_size for file in waiting)
        return warning(
            "spill",
            f"files in {folder}: {len(waiting)}, of {size} bytes",
            "their workers write them once the database takes them; look at its log",
        )
    return ok("spill", f"nothing waits in {folder}")
