"""`flowtrail repair`: makes the rows of a run what Temporal's history says."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING, Annotated
from uuid import UUID

import typer

from tracker.cli.output import JsonFlag, write_json
from tracker.cli.settings import load_settings
from tracker.core.ref_rules import RefRule
from tracker.store.database import Database
from tracker.temporal.ref_rules import RULES_FILE, history_rules, load_rules

if TYPE_CHECKING:
    from tracker.temporal.projector import Projected


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("repair")(repair)


def repair(
    run_id: Annotated[UUID, typer.Argument(help="Run id, ours or Temporal's.")],
    rules: Annotated[
        Path | None, typer.Option(help=f"File with [[refs]] tables; default: {RULES_FILE}, if any.")
    ] = None,
    json: JsonFlag = False,
) -> None:
    """Read a run's history and correct its rows: status, steps, attempts, values.

    Safe to repeat. What only live recording sees, such as earlier attempts, stays. Values are kept
    as FLOWTRAIL_PAYLOAD_DEFAULT says; set it to what the workers do.
    """
    path = rules or Path(RULES_FILE)
    known = load_rules(path) if rules or path.exists() else ()
    done = asyncio.run(_repair(run_id, known))
    if json:
        facts = {"history_length": done.history_length, "events": done.events}
        write_json({"run_id": run_id, **facts})
    else:
        typer.echo(f"repaired {run_id} from {done.history_length} history events")


async def _repair(run_id: UUID, rules: tuple[RefRule, ...]) -> Projected:
    from tracker.temporal.connection import connect  # temporalio: 0.3 s of every other command.
    from tracker.temporal.projector import Projector

    settings = load_settings()
    client = await connect(settings.data_converter)
    policy = settings.policy()
    async with (
        Database(settings.database_options(), max_connections=1) as database,
        Projector(client, database, policy=policy, ref_rules=history_rules(rules)) as projector,
    ):
        return await projector.repair(run_id)
