"""`flowtrail purge`, `hold` and `erase`: what goes from the tables, and what must not."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from typing import Annotated

import typer

from tracker.cli.auditing import actor, note
from tracker.cli.output import JsonFlag, write_fields, write_json, write_table
from tracker.cli.settings import load_settings, open_database, temporal_namespace
from tracker.cli.spans import span
from tracker.core.ids import Ref
from tracker.store import holds
from tracker.store.audit import DONE
from tracker.store.database import Database
from tracker.store.erase import Erased
from tracker.store.erase import erase as erase_ref
from tracker.store.purge import COUNTED_TO, PurgeOrder, PurgePolicy, PurgeReport
from tracker.store.purge import purge as carry_out

hold = typer.Typer(no_args_is_help=True, help="Refs whose runs no purge and no erasure touches.")

RefArgument = Annotated[str, typer.Argument(help="ref_type/ref_id")]
Change = Callable[[Database, str], Awaitable[bool]]
Yes = Annotated[bool, typer.Option("--yes", help="Do not ask.")]


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command("purge")(purge)
    app.command("erase")(erase)
    app.add_typer(hold, name="hold")


def purge(
    older_than: Annotated[
        timedelta,
        typer.Option(parser=span, metavar="SPAN", help="Of runs that closed so long ago, as 90d."),
    ],
    types: Annotated[
        list[str] | None, typer.Option("--type", help="Only this workflow type; repeatable.")
    ] = None,
    policy: Annotated[
        PurgePolicy, typer.Option(help="What stays: everything, the verdict, or nothing.")
    ] = PurgePolicy.VERDICT,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only count.")] = False,
    force: Annotated[
        bool, typer.Option("--force", help="Also runs that history has not confirmed.")
    ] = False,
    yes: Yes = False,
    json: JsonFlag = False,
) -> None:
    """Remove the values of old runs, or the runs themselves. As the owner of the tables.

    Open runs and those on legal hold stay; so do those that history has not confirmed, unless
    --force is given.
    """
    namespace = temporal_namespace()
    order = PurgeOrder(
        namespace=namespace,
        before=datetime.now(UTC) - older_than,
        policy=policy,
        workflow_types=tuple(types or ()),
        dry_run=dry_run,
        force=force,
    )
    if policy is PurgePolicy.DELETE and not (dry_run or yes):
        typer.confirm(f"Delete all runs that closed before {order.before:%F %T} UTC?", abort=True)
    report = carry_out(load_settings().database_options(), order)
    if not dry_run and policy is not PurgePolicy.FULL:
        asyncio.run(_audit_purge(namespace, order, report))
    if json:
        write_json(report)
        return
    _print(report, dry_run=dry_run)


def erase(
    ref: RefArgument,
    reason: Annotated[str | None, typer.Option(help="Why, for the audit.")] = None,
    yes: Yes = False,
    json: JsonFlag = False,
) -> None:
    """Empty all runs of one ref for good: values, errors, metadata, progress.

    What happened when, and how it ended, stays, and so does the ref itself.
    """
    parsed, namespace = Ref.parse(ref), temporal_namespace()
    if not yes:
        typer.confirm(f"Erase the values and texts of all runs of {parsed}, for good?", abort=True)

    async def run() -> Erased:
        async with open_database() as database:
            done = await erase_ref(database, namespace, parsed)
            for run_id in done.run_ids:
                await note(database, namespace, "erase", run_id=run_id, reason=reason)
            return done

    done = asyncio.run(run())
    if json:
        write_json(done)
        return
    typer.echo(
        f"erased {len(done.run_ids)} runs of {parsed} with {done.payloads} values"
        + (f"; {done.before} were erased before" if done.before else "")
    )


@hold.command("add")
def add(
    ref: RefArgument,
    reason: Annotated[str, typer.Option(help="Why: it is shown to whoever is refused.")],
) -> None:
    """Hold a ref."""
    parsed = Ref.parse(ref)

    async def change(database: Database, namespace: str) -> bool:
        return await holds.add_hold(database, namespace, parsed, reason, actor())

    is_new = _changed("hold.add", parsed, reason, change)
    typer.echo(f"{parsed} is held" if is_new else f"{parsed} was held already")


@hold.command("remove")
def remove(
    ref: RefArgument,
    reason: Annotated[str | None, typer.Option(help="Why, for the audit.")] = None,
) -> None:
    """Let go of a ref."""
    parsed = Ref.parse(ref)

    async def change(database: Database, namespace: str) -> bool:
        return await holds.remove_hold(database, namespace, parsed)

    was_held = _changed("hold.remove", parsed, reason, change)
    typer.echo(f"{parsed} is free" if was_held else f"{parsed} was not held")


@hold.command("list")
def list_(json: JsonFlag = False) -> None:
    """List what is held."""

    async def run() -> list[holds.Hold]:
        async with open_database() as database:
            return await holds.list_holds(database, temporal_namespace())

    found = asyncio.run(run())
    if json:
        write_json({"holds": found})
        return
    write_table(
        ["REF", "REASON", "BY", "SINCE"],
        [(one.ref, one.reason, one.actor, one.held_at) for one in found],
        empty="Nothing is held.",
    )


def _changed(action: str, ref: Ref, reason: str | None, change: Change) -> bool:
    namespace = temporal_namespace()

    async def run() -> bool:
        async with open_database() as database:
            changed = await change(database, namespace)
            outcome = DONE if changed else "nothing_to_do"
            details = {"ref": str(ref)}
            await note(database, namespace, action, outcome=outcome, reason=reason, details=details)
            return changed

    return asyncio.run(run())


async def _audit_purge(namespace: str, order: PurgeOrder, report: PurgeReport) -> None:
    details = asdict(report) | {
        "before": order.before.isoformat(),
        "types": list(order.workflow_types),
        "force": order.force,
    }
    del details["dropped_before"]  # The partitions tell.
    async with open_database() as database:
        await note(database, namespace, "purge", details=details)


def _print(report: PurgeReport, *, dry_run: bool) -> None:
    write_fields(
        [
            ("policy", report.policy.value + (", nothing was changed" if dry_run else "")),
            ("runs", report.runs),
            ("steps deleted", report.steps or None),
            ("attempts deleted", report.attempts or None),
            ("values deleted", report.payloads),
            ("months dropped", ", ".join(report.partitions) or None),
            ("bytes freed", f"{report.bytes:,}"),
            ("left out, not confirmed", _counted(report.unverified)),
            ("left out, on hold", report.held or None),
        ]
    )


def _counted(number: int) -> str | None:
    if number >= COUNTED_TO:
        return f"{COUNTED_TO - 1:,} or more"
    return f"{number:,}" if number else None
