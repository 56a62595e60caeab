"""With a payload codec nothing that passes through it may be found in clear at the tracker."""

from __future__ import annotations

import base64
import dataclasses
import hashlib
import logging
from collections.abc import AsyncIterator, Iterator, Sequence
from typing import Any

import psycopg
import pytest
from psycopg.rows import DictRow, dict_row
from psycopg.sql import SQL, Identifier
from temporalio.api.common.v1 import Payload
from temporalio.client import WorkflowFailureError, WorkflowUpdateFailedError
from temporalio.common import HeaderCodecBehavior
from temporalio.converter import DataConverter, PayloadCodec

from tests.proxy import TcpProxy
from tests.temporal.tracking.harness import Tracked
from tests.temporal.tracking.payload_workflows import ACTIVITIES, WORKFLOWS
from tests.temporal.tracking.test_outages import port
from tests.waiting import eventually
from tracker.core.payloads import PayloadPolicy, Treatment
from tracker.temporal.refs import tracked_ref

SECRET = "Rosebud-4711-of-the-sled"


class Encrypting(PayloadCodec):
    """A stream cipher good enough to hide a word from a search."""

    async def encode(self, payloads: Sequence[Payload]) -> list[Payload]:
        return [
            Payload(
                metadata={"encoding": b"binary/encrypted"},
                data=_ciphered(payload.SerializeToString()),
            )
            for payload in payloads
        ]

    async def decode(self, payloads: Sequence[Payload]) -> list[Payload]:
        return [
            Payload.FromString(_ciphered(payload.data))
            if payload.metadata["encoding"] == b"binary/encrypted"
            else payload
            for payload in payloads
        ]


CODEC = Encrypting()
CONVERTER = dataclasses.replace(DataConverter.default, payload_codec=CODEC)


@pytest.mark.parametrize("headers", [HeaderCodecBehavior.NO_CODEC, HeaderCodecBehavior.CODEC])
@pytest.mark.parametrize("away", [False, True], ids=["there", "away"])
async def test_nothing_in_clear(
    tracked: Tracked,
    database: str,
    caplog: pytest.LogCaptureFixture,
    headers: HeaderCodecBehavior,
    away: bool,
) -> None:
    caplog.set_level(logging.DEBUG, "tracker")
    tracked.dsn, tracked.expects_trouble = database, away
    async with TcpProxy(port(database)) as proxy:
        client = tracked.client(
            data_converter=CONVERTER,
            header_codec_behavior=headers,
            recorder=tracked.options(proxy.redirect(database), max_wait=0.5),
        )
        if away:
            proxy.reset()
        async with tracked.worker(WORKFLOWS, ACTIVITIES, client=client):
            with tracked_ref("order", "o-1", metadata={"secret": SECRET}):
                handle = await tracked.start("Secretive", SECRET, client=client)
            await handle.signal("whisper", SECRET)
            for word in (f"{SECRET}?", f"{SECRET}!"):
                with pytest.raises(WorkflowUpdateFailedError):
                    await handle.execute_update("answer", word)
            assert await handle.execute_update("answer", SECRET) == SECRET
            with pytest.raises(WorkflowFailureError):
                await handle.result()
            if away:
                await eventually(lambda: any(tracked.spill_dir.glob("*.spill")))
                for file in tracked.spill_dir.iterdir():
                    assert not reveals(file.read_bytes()), file
                proxy.pass_on()
                await eventually(lambda: not any(tracked.spill_dir.iterdir()))
    async for table, row in everything(database):
        assert not reveals(row), (table, row)

    run = await tracked.corrected(handle, codec=CODEC)
    async for table, row in everything(database):
        assert not reveals(row), (table, row)
    assert (run.status, run.ref_type, run.ref_id) == ("continued_as_new", "order", "o-1")
    assert (run.input, run.metadata) == (None, None)
    remote, local = [step for step in run.steps if step.name == "spill_the_beans"]
    assert remote.outcomes == [(1, "failed"), (2, "completed")]
    assert (local.kind, local.outcomes) == ("local_activity", [(1, "completed")])
    failed = remote.tries[0]
    assert (failed.error_type, failed.error_message, failed.error_stack) == (
        "RuntimeError",
        None,
        None,
    )
    kept = {row["treatment"] for row in await all_payloads(database)}
    assert kept == {Treatment.ENCODED}
    for record in caplog.records:
        if record.name.startswith("tracker"):
            assert SECRET not in logging.Formatter().format(record)


async def test_clear_text_is_kept_where_somebody_asks_for_it(tracked: Tracked) -> None:
    policy = PayloadPolicy(Treatment.FULL)
    client = tracked.client(data_converter=CONVERTER, payloads=policy)
    async with tracked.worker(WORKFLOWS, ACTIVITIES, client=client):
        with tracked_ref("order", "o-1", metadata={"dept": "x"}):
            handle = await tracked.start("Confidant", SECRET, client=client)
        assert await handle.result() == SECRET
    run = await tracked.run(handle)
    for seen in (run, await tracked.corrected(handle, codec=CODEC, policy=policy)):
        assert (seen.input, seen.output, seen.metadata) == ([SECRET], SECRET, {"dept": "x"})


async def test_the_memo_survives_codec_and_continue_as_new(tracked: Tracked) -> None:
    policy = PayloadPolicy(Treatment.FULL)
    client = tracked.client(data_converter=CONVERTER, payloads=policy)
    async with tracked.worker(WORKFLOWS, ACTIVITIES, client=client):
        handle = await tracked.start("Secretive", SECRET, client=client, memo={"mine": [1]})
        for word in ("a", "b"):
            await handle.signal("whisper", word)
        with pytest.raises(WorkflowFailureError):
            await handle.result()
    first, second = [run for run in await tracked.runs() if run.workflow_type == "Secretive"]
    assert first.metadata == second.metadata == {"about": SECRET}
    latest = client.get_workflow_handle(handle.id)
    assert await (await latest.describe()).memo_value("mine") == [1]


def reveals(value: Any) -> bool:
    """Whether the secret can be found in a value, plain or in base64."""
    if isinstance(value, memoryview | bytes | bytearray):
        found = bytes(value)
        return any(clue in found for clue in _clues())
    if isinstance(value, dict):
        return any(reveals(part) for pair in value.items() for part in pair)
    if isinstance(value, list):
        return any(reveals(part) for part in value)
    return any(clue.decode() in str(value) for clue in _clues())


async def everything(dsn: str) -> AsyncIterator[tuple[str, dict[str, Any]]]:
    """Each row of each table of the tracker."""
    async with await psycopg.AsyncConnection[DictRow].connect(
        dsn, row_factory=dict_row
    ) as connection:
        tables = await connection.execute(
            "SELECT tablename FROM pg_tables WHERE schemaname = 'flowtrail'"
        )
        for table in [row["tablename"] for row in await tables.fetchall()]:
            query = SQL("SELECT * FROM flowtrail.{}").format(Identifier(table))
            for row in await (await connection.execute(query)).fetchall():
                yield table, row


async def all_payloads(dsn: str) -> list[dict[str, Any]]:
    """Rows of the table `payload`."""
    return [row async for table, row in everything(dsn) if table.startswith("payload")]


def _clues() -> Iterator[bytes]:
    yield SECRET.encode()
    for shift in range(3):
        # Base64 of a word depends on where it begins; the ends belong to its neighbours.
        yield base64.b64encode(b"?" * shift + SECRET.encode())[4:-4]


def _ciphered(data: bytes) -> bytes:
    stream = b""
    for block in range(len(data) // 32 + 1):
        stream += hashlib.sha256(b"key" + block.to_bytes(4, "big")).digest()
    return bytes(one ^ other for one, other in zip(data, stream, strict=False))
