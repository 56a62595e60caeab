"""Checks of the database for `flowtrail doctor`: is it reachable, migrated, granted, and the one
that it is taken for?

Each check gives a finding and never raises; what depends on an earlier one is skipped.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncGenerator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import psycopg
from psycopg.rows import DictRow, dict_row

from tracker.core.diagnosis import Finding, failed, ok, skipped, warning
from tracker.core.payloads import Sealed, label_of
from tracker.errors import DecryptionFailed, SchemaMismatch
from tracker.store.changes import PATIENCE
from tracker.store.database import AsyncConnection, DatabaseOptions
from tracker.store.partitions import Month
from tracker.store.schema import check_schema

OLDEST_SERVER = 150000
CLOCKS_APART = 1.0
"""Seconds; beyond it durations that mix the clocks of database and workers mislead."""
NOTIFIED_WITHIN = 2.0
ORDERED_WITHIN = 10.0
SAMPLE = 200
"""Latest values of which one is opened."""

Privileges = Mapping[str, Sequence[str]]
"""Verbs, as `SELECT, INSERT`, to tables."""


async def diagnose(
    options: DatabaseOptions, roles: Mapping[str, Privileges]
) -> AsyncGenerator[Finding]:
    """Look at a database.

    Args:
        options: As the program under suspicion has them.
        roles: What each of our roles may do.

    Yields:
        Findings, the more basic ones first.
    """
    try:
        connection = await _connect(options, options.dsn)
    except psycopg.Error as error:
        yield failed("database", _told(error), _fix_connection(error))
        for check in ("pooler", "schema", "grants", "listen", "partitions", "clock"):
            yield skipped(check, "no database")
        return
    async with connection:
        yield _server(connection)
        async for finding in _pooler(connection, options):
            yield finding
        schema = await _schema(connection, options)
        yield schema
        yield await _clock(connection)
        yield await _listen(options)
        if schema.fix is not None:
            for check in ("grants", "partitions", "live feed", "keys"):
                yield skipped(check, "no tables of this version")
            return
        yield await _grants(connection, options, roles)
        yield await _partitions(connection, options)
        yield await _feed(connection, options)
        yield await _keys(connection, options)


async def _connect(options: DatabaseOptions, dsn: str) -> AsyncConnection:
    return await psycopg.AsyncConnection[DictRow].connect(
        dsn,
        row_factory=dict_row,
        prepare_threshold=None,
        **options.connect_arguments(pooled=True),
    )


async def _row(connection: AsyncConnection, query: str, *parameters: Any) -> DictRow:
    cursor = await connection.execute(query.encode(), parameters or None)
    row = await cursor.fetchone()
    assert row is not None
    return row


def _server(connection: AsyncConnection) -> Finding:
    info, version = connection.info, connection.info.server_version
    found = f"PostgreSQL {version // 10000}, {info.dbname} at {info.host}:{info.port}"
    if version < OLDEST_SERVER:
        return failed("database", found, "use PostgreSQL 15 or newer")
    return ok("database", f"{found}, as {info.user}")


async def _pooler(connection: AsyncConnection, options: DatabaseOptions) -> AsyncGenerator[Finding]:
    """A pooler makes up the process id that it tells at the connection's start."""
    row = await _row(connection, "SELECT pg_backend_pid() AS pid")
    is_pooled = row["pid"] != connection.info.backend_pid
    if options.direct_dsn is None:
        if is_pooled:
            yield warning(
                "pooler",
                "there is one before the database",
                "set FLOWTRAIL_DIRECT_DATABASE_URL to the database itself, for migrations, the "
                "recorder and locks",
            )
        else:
            yield ok("pooler", "none")
        return
    try:
        direct = await _connect(options, options.direct_dsn)
    except psycopg.Error as error:
        yield failed(
            "pooler",
            f"FLOWTRAIL_DIRECT_DATABASE_URL: {_told(error)}",
            _fix_connection(error),
        )
        return
    async with direct:
        yield await _same(connection, direct, is_pooled=is_pooled)


async def _same(
    connection: AsyncConnection, direct: AsyncConnection, *, is_pooled: bool
) -> Finding:
    query = "SELECT pg_postmaster_start_time() AS since, current_database() AS name"
    if await _row(connection, query) != await _row(direct, query):
        return failed(
            "pooler",
            "the direct URL is that of another database",
            "let FLOWTRAIL_DATABASE_URL and FLOWTRAIL_DIRECT_DATABASE_URL lead to the same one",
        )
    row = await _row(direct, "SELECT pg_backend_pid() AS pid")
    if row["pid"] != direct.info.backend_pid:
        return failed(
            "pooler",
            "the direct URL leads through a pooler too",
            "let FLOWTRAIL_DIRECT_DATABASE_URL name the database itself",
        )
    return ok("pooler", "one, and a way past it" if is_pooled else "none")


async def _schema(connection: AsyncConnection, options: DatabaseOptions) -> Finding:
    try:
        await check_schema(connection, options)
    except SchemaMismatch as error:
        return failed("schema", error.message, "run `flowtrail migrate`, or update what is older")
    except psycopg.errors.InsufficientPrivilege:
        return failed(
            "schema",
            f"this role may not look into schema {options.schema!r}",
            "as the owner, run the grants that `flowtrail init` prints",
        )
    return ok("schema", f"{options.schema}, of this version")


async def _clock(connection: AsyncConnection) -> Finding:
    before = datetime.now(UTC)
    row = await _row(connection, "SELECT clock_timestamp() AS now")
    after = datetime.now(UTC)
    apart = (row["now"] - before - (after - before) / 2).total_seconds()
    if abs(apart) > CLOCKS_APART + (after - before).total_seconds():
        return warning(
            "clock",
            f"the database is {abs(apart):.1f} s {'ahead' if apart > 0 else 'behind'}",
            "synchronise the clocks of this host and of the database (NTP)",
        )
    return ok("clock", "that of the database, to a second")


async def _listen(options: DatabaseOptions) -> Finding:
    """Whether a notification that another connection sends arrives."""
    channel, direct = f"flowtrail_doctor_{secrets.token_hex(4)}", options.direct_dsn or options.dsn
    try:
        async with await _connect(options, direct) as listener:
            await listener.execute(f"LISTEN {channel}".encode())
            async with await _connect(options, direct) as sender:
                await sender.execute(f"NOTIFY {channel}".encode())
            async with asyncio.timeout(NOTIFIED_WITHIN):
                async for _ in listener.notifies():
                    return ok("listen", "notifications arrive")
    except (psycopg.Error, TimeoutError) as error:
        return warning(
            "listen",
            f"notifications do not arrive: {_told(error)}",
            "a pooler in transaction mode swallows them: set FLOWTRAIL_DIRECT_DATABASE_URL",
        )
    return warning("listen", "the connection ended", "look at the database's log")


async def _grants(
    connection: AsyncConnection, options: DatabaseOptions, roles: Mapping[str, Privileges]
) -> Finding:
    """Which of our roles this one can stand for."""
    missing = {
        role: [
            f"{verb} on {table}"
            for verbs, tables in privileges.items()
            for table in tables
            for verb in verbs.split(", ")
            if not await _may(connection, f"{options.schema}.{table}", verb)
        ]
        for role, privileges in roles.items()
    }
    able = [role for role, lacks in missing.items() if not lacks]
    if able:
        return ok("grants", f"those of {', '.join(able)}")
    role, lacks = min(missing.items(), key=lambda item: len(item[1]))
    shown = ", ".join(lacks[:3]) + (f" and {len(lacks) - 3} more" if len(lacks) > 3 else "")
    return failed(
        "grants",
        f"this role can be none of ours; for {role} it lacks {shown}",
        "as the owner, run the grants that `flowtrail init` prints, then GRANT one of the roles to "
        "this one",
    )


async def _may(connection: AsyncConnection, table: str, verb: str) -> bool:
    row = await _row(connection, "SELECT has_table_privilege(%s, %s) AS may", table, verb)
    return row["may"]


async def _partitions(connection: AsyncConnection, options: DatabaseOptions) -> Finding:
    months = [Month.of(datetime.now(UTC)).plus(offset) for offset in (0, 1)]
    cursor = await connection.execute(
        b"SELECT relname FROM pg_class"
        b" WHERE relnamespace = to_regnamespace(%s) AND relname = ANY(%s)",
        [options.schema, [month.partition for month in months]],
    )
    found = {row["relname"] for row in await cursor.fetchall()}
    missing = [month.partition for month in months if month.partition not in found]
    if missing:
        return warning(
            "partitions",
            f"missing: {', '.join(missing)}; values go to payload_default",
            "run `flowtrail migrate`, which makes those of the coming twelve months",
        )
    return ok("partitions", "of this month and the next")


async def _feed(connection: AsyncConnection, options: DatabaseOptions) -> Finding:
    """Whether somebody gives changes their place in the order."""
    query = options.qualified(
        "SELECT extract(epoch FROM clock_timestamp() - at)::float8 AS waits"
        # A step waits for its run for a while, whoever orders.
        " FROM {schema}.change_pending"
        " WHERE kind = 'run' OR at < clock_timestamp() - make_interval(secs => %s)"
        " ORDER BY id LIMIT 1"
    )
    try:
        row = await (await connection.execute(query, [PATIENCE + ORDERED_WITHIN])).fetchone()
    except psycopg.errors.InsufficientPrivilege:
        return skipped("live feed", "this role may not read it")
    if row is not None and row["waits"] > ORDERED_WITHIN:
        return warning(
            "live feed",
            f"a change has waited for {row['waits']:.0f} s to be told",
            "look whether an API process runs, and logs `feed.leads` (docs/operations.md)",
        )
    return ok("live feed", "no change waits to be told")


async def _keys(connection: AsyncConnection, options: DatabaseOptions) -> Finding:
    """Whether the latest encrypted value opens."""
    query = options.qualified(
        "SELECT key_id, data, digest, treatment, encoding FROM (SELECT * FROM {schema}.payload"
        f" ORDER BY id DESC LIMIT {SAMPLE}) p WHERE key_id IS NOT NULL ORDER BY id DESC LIMIT 1"
    )
    try:
        cursor = await connection.execute(query)
        row = await cursor.fetchone()
    except psycopg.errors.InsufficientPrivilege:
        return skipped("keys", "this role may not read values")
    if row is None:
        return ok("keys", "the latest values are not encrypted")
    if options.opener is None:
        return warning(
            "keys",
            f"values are encrypted with key {row['key_id']!r}, and none is set here",
            "set FLOWTRAIL_ENCRYPTION_KEYS, unless this program is not to read values",
        )
    label = label_of(row["digest"], row["treatment"], row["encoding"])
    try:
        options.opener.open(Sealed(row["key_id"], row["data"]), label)
    except DecryptionFailed as error:
        return failed("keys", error.message, "correct FLOWTRAIL_ENCRYPTION_KEYS")
    return ok("keys", f"key {row['key_id']!r} opens the latest encrypted value")


def _told(error: BaseException) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]


def _fix_connection(error: psycopg.Error) -> str:
    text = str(error)
    if "password authentication" in text or ("role" in text and "does not exist" in text):
        return "correct user or password in the URL"
    if "database" in text and "does not exist" in text:
        return "create the database, or correct its name in the URL"
    return "look whether the server runs, and whether host, port and firewall are right"
