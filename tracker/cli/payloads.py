"""`flowtrail payloads`: the keys that encrypt stored values, and their rotation."""

from __future__ import annotations

import asyncio
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Annotated

import typer

from tracker.cli.auditing import note
from tracker.cli.output import JsonFlag, progress, write_fields, write_json
from tracker.cli.settings import load_settings, open_database, temporal_namespace
from tracker.encryption import new_keyring
from tracker.errors import ConfigurationError, DecryptionFailed
from tracker.store.reseal import ResealReport, reseal

commands = typer.Typer(no_args_is_help=True, help="Encryption of stored values.")


@commands.command("new-key")
def new_key(
    key_id: Annotated[
        str | None, typer.Option("--id", help="Of the new key. Default: today's date.")
    ] = None,
    json: JsonFlag = False,
) -> None:
    """Make a key and print what FLOWTRAIL_ENCRYPTION_KEYS becomes with it.

    With keys in use these are two values: give every program the first, so that all of them know
    the new key, then the second, with which they use it.
    """
    ring, name = load_settings().keyring(), key_id or f"{datetime.now(UTC):%Y-%m-%d}"
    if ring is None:
        steps = [new_keyring(name)]
    else:
        known = ring.with_key(name)
        steps = [known, known.using(name)]
    if json:
        write_json({"key_id": name, "steps": [step.text() for step in steps]})
        return
    for step in steps:
        typer.echo(f"FLOWTRAIL_ENCRYPTION_KEYS={step.text()}")


@commands.command()
def rotate(
    clear: Annotated[
        bool, typer.Option("--clear", help="Also encrypt values stored before there were keys.")
    ] = False,
    json: JsonFlag = False,
) -> None:
    """Encrypt every stored value with the current key. As the owner of the tables.

    Safe to stop and to repeat. Keys that no value needs any more can then be left out.
    """
    ring = load_settings().keyring()
    if ring is None:
        raise ConfigurationError(
            "FLOWTRAIL_ENCRYPTION_KEYS is not set; `flowtrail payloads new-key` makes a key"
        )
    namespace = temporal_namespace()

    async def run() -> ResealReport:
        async with open_database() as database:
            with progress("Encrypting values") as advance:
                report = await reseal(database, ring, encrypt_clear=clear, advance=advance)
            details = {"key_id": ring.current, **asdict(report)}
            await note(database, namespace, "payloads.rotate", details=details)
            return report

    report = asyncio.run(run())
    if json:
        write_json({"key_id": ring.current, **asdict(report)})
    else:
        write_fields(
            [
                ("current key", ring.current),
                ("encrypted with it now", report.resealed),
                ("had it already", report.current),
                ("not encrypted", report.clear),
            ]
        )
    if report.unreadable:
        kept = ", ".join(f"{count} with {key_id!r}" for key_id, count in report.unreadable.items())
        raise DecryptionFailed(
            f"values that the present keys do not open were left as they are: {kept}; add their "
            "keys to FLOWTRAIL_ENCRYPTION_KEYS and repeat",
            unreadable=report.unreadable,
        )
