"""What types mark, and what is encrypted, must not be found in the tables: live, in the spill file,
and as history tells it."""

from __future__ import annotations

import logging
from dataclasses import replace
from typing import Any

import pytest
from temporalio.contrib.pydantic import pydantic_data_converter

from tests.proxy import TcpProxy
from tests.temporal.tracking.harness import Handle, RecordedRun, Tracked
from tests.temporal.tracking.private_workflows import (
    ACTIVITIES,
    UNMARKED,
    WORKFLOWS,
    Buying,
    Card,
    Purchase,
    Till,
    Vault,
    carry,
    remember,
)
from tests.temporal.tracking.test_codec import SECRET, all_payloads, everything, reveals
from tests.temporal.tracking.test_outages import port
from tests.waiting import eventually
from tracker.core.payloads import PayloadPolicy, PayloadRule, Treatment
from tracker.encryption import new_keyring
from tracker.errors import ConfigurationError
from tracker.store.database import Database, DatabaseOptions
from tracker.store.run_detail import get_input
from tracker.temporal.encryption_codec import EncryptionCodec
from tracker.temporal.marks import marks_of

MARKS = marks_of(Buying, Vault, Till.charge, remember)
MARKED = PayloadPolicy(marks=MARKS)
HIDDEN = {"number": "[redacted]", "month": 1}
PURCHASE = Purchase("o-1", Card(SECRET), {"b": Card(SECRET)})


async def bought(tracked: Tracked, policy: PayloadPolicy, **options: Any) -> Handle:
    """A purchase with a secret in every place."""
    converter = options.pop("data_converter", pydantic_data_converter)
    client = tracked.client(payloads=policy, data_converter=converter, **options)
    async with tracked.worker(WORKFLOWS, ACTIVITIES, client=client):
        handle = await tracked.start("Buying", PURCHASE, client=client)
        await handle.signal("another", Card(SECRET))
        await handle.execute_update("replace", args=[SECRET, "o-1"])
        await handle.result()
    return handle


async def test_marked_values_are_redacted_live_and_from_history(
    tracked: Tracked, database: str
) -> None:
    tracked.dsn = database
    handle = await bought(tracked, MARKED)
    for run in (await tracked.run(handle), await tracked.corrected(handle, policy=MARKED)):
        assert run.input == [{"order": "o-1", "card": HIDDEN, "spare": {"b": HIDDEN}}]
        assert run.output == {"order": "o-1", "cards": [HIDDEN] * 3}
        assert_steps_hide(run)
        async for table, row in everything(database):
            assert not reveals(row), (table, row)


def assert_steps_hide(run: RecordedRun) -> None:
    """Every step shows what is not secret, and only that."""
    pay, remembered = run.step("pay"), run.step("remember-card")
    assert (pay.input, pay.output) == (["o-1", HIDDEN], {"order": "o-1", "cards": [HIDDEN]})
    assert (remembered.input, remembered.output) == ([HIDDEN], "[redacted]")
    child, update = run.step("Vault"), run.step("replace")
    assert (child.input, child.output) == ([HIDDEN], "[redacted]")
    assert (update.input, update.output) == (["[redacted]", "o-1"], HIDDEN | {"month": 3})
    for step in run.steps:
        if step.kind == "signal":
            assert step.input == [HIDDEN]


async def test_a_rule_adds_to_the_marks(tracked: Tracked) -> None:
    rule = PayloadRule(Treatment.REDACTED, step="pay", redact=lambda value: [value, "seen"])
    policy = replace(MARKED, rules=[rule])
    handle = await bought(tracked, policy)
    for run in (await tracked.run(handle), await tracked.corrected(handle, policy=policy)):
        assert run.step("pay").input == [["o-1", HIDDEN], "seen"]


async def test_a_worker_whose_policy_does_not_know_its_marks_does_not_start(
    tracked: Tracked,
) -> None:
    policy = PayloadPolicy(marks=marks_of(Buying, Vault, Till.charge))
    with pytest.raises(ConfigurationError, match=r"'remember-card' .* add remember to"):
        async with tracked.worker(WORKFLOWS, ACTIVITIES, client=tracked.client(payloads=policy)):
            pass


def test_what_is_no_definition_is_refused() -> None:
    with pytest.raises(ConfigurationError, match=r"@workflow\.defn"):
        marks_of(Card)


# Encryption


@pytest.mark.parametrize("away", [False, True], ids=["there", "away"])
async def test_values_are_encrypted_in_tables_and_spill_file(
    tracked: Tracked, database: str, caplog: pytest.LogCaptureFixture, away: bool
) -> None:
    caplog.set_level(logging.DEBUG, "tracker")
    tracked.dsn, tracked.expects_trouble = database, away
    ring = new_keyring("k1")
    policy = PayloadPolicy(sealer=ring)
    async with TcpProxy(port(database)) as proxy:
        options = tracked.options(proxy.redirect(database), max_wait=0.5)
        if away:
            proxy.reset()
        client = tracked.client(payloads=policy, recorder=options)
        async with tracked.worker(UNMARKED, [carry], client=client):
            handle = await tracked.start("Carrying", SECRET, client=client)
            assert await handle.result() == [SECRET, SECRET]
            if away:
                await eventually(lambda: any(tracked.spill_dir.glob("*.spill")))
                for file in tracked.spill_dir.iterdir():
                    assert not reveals(file.read_bytes()), file
                proxy.pass_on()
                await eventually(lambda: not any(tracked.spill_dir.iterdir()))
    run = await tracked.corrected(handle, policy=policy)
    async for table, row in everything(database):
        assert not reveals(row), (table, row)
    assert {row["key_id"] for row in await all_payloads(database)} == {"k1"}
    assert (run.input, run.output) == (None, None)
    for opener, shown in ((ring, [SECRET]), (None, None)):
        async with Database(DatabaseOptions(database, opener=opener)) as pool:
            value = await get_input(pool, tracked.namespace, run.run_id)
        assert value is not None
        assert value.key_id == "k1"
        assert value.value == shown


async def test_marks_and_encryption_and_the_codec_go_together(
    tracked: Tracked, database: str
) -> None:
    tracked.dsn = database
    ring = new_keyring("k1")
    codec = EncryptionCodec(ring)
    policy = PayloadPolicy(Treatment.FULL, marks=MARKS, sealer=ring)
    handle = await bought(
        tracked, policy, data_converter=replace(pydantic_data_converter, payload_codec=codec)
    )
    run = await tracked.corrected(handle, policy=policy, codec=codec)
    async for table, row in everything(database):
        assert not reveals(row), (table, row)
    async with Database(DatabaseOptions(database, opener=ring)) as pool:
        value = await get_input(pool, tracked.namespace, run.run_id)
    assert value is not None
    assert value.treatment == "redacted"
    assert value.value == [{"order": "o-1", "card": HIDDEN, "spare": {"b": HIDDEN}}]
