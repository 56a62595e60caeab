"""What is kept of values: by policy, and of values that JSON or jsonb cannot hold."""

from __future__ import annotations

from hashlib import sha256
from typing import Any

import pytest
from temporalio.client import WorkflowFailureError
from temporalio.contrib.pydantic import pydantic_data_converter

from tests.temporal.tracking.harness import Handle, RecordedRun, Tracked
from tests.temporal.tracking.payload_workflows import ACTIVITIES, WORKFLOWS
from tests.temporal.tracking.retry_workflows import ACTIVITIES as FAILING_ACTIVITIES
from tests.temporal.tracking.retry_workflows import Charging
from tracker.core.payloads import PayloadPolicy, PayloadRule, Treatment

INPUT = b'["uuid"]'
UUID_TEXT = b'"01a1f8f7-13ab-7ab3-9d6c-0e228391fc4e"'


def redact(value: Any) -> Any:
    """What a user might write."""
    return {"length": len(value)}


@pytest.mark.parametrize(
    ("policy", "kept"),
    [
        (PayloadPolicy(), (["uuid"], "01a1f8f7-13ab-7ab3-9d6c-0e228391fc4e")),
        (PayloadPolicy(Treatment.NONE), (None, None)),
        (PayloadPolicy(Treatment.DIGEST), (None, None)),
        (
            PayloadPolicy(rules=[PayloadRule(Treatment.REDACTED, step="od*", redact=redact)]),
            ({"length": 1}, {"length": 36}),
        ),
        (
            PayloadPolicy(rules=[PayloadRule(Treatment.NONE, workflow_type="Other")]),
            (["uuid"], "01a1f8f7-13ab-7ab3-9d6c-0e228391fc4e"),
        ),
        (PayloadPolicy(limit=20), (["uuid"], None)),
    ],
    ids=["full", "none", "digest", "redacted", "other rule", "too large"],
)
async def test_policies(tracked: Tracked, policy: PayloadPolicy, kept: tuple[Any, Any]) -> None:
    handle, run = await ran(tracked, "Odd", "uuid", payloads=policy)
    for seen in (run, await tracked.corrected(handle, policy=policy)):
        step = seen.step("odd")
        assert (step.input, step.output) == kept
    rows = {row["id"]: row for row in await payloads_of(tracked, run)}
    if policy.default is Treatment.NONE:
        assert rows == {}
    if policy.default is Treatment.DIGEST:
        digests = {(row["digest"], row["size"], row["treatment"]) for row in rows.values()}
        expected = {(sha256(text).digest(), len(text), "digest") for text in (INPUT, UUID_TEXT)}
        assert expected <= digests
        assert all(row["body"] is row["data"] is None for row in rows.values())
    if policy.limit == 20:
        assert (38, "too_large") in {(row["size"], row["treatment"]) for row in rows.values()}


async def test_errors_obey_the_policy(tracked: Tracked) -> None:
    policy = PayloadPolicy(Treatment.DIGEST)
    client = tracked.client(payloads=policy)
    async with tracked.worker([Charging], FAILING_ACTIVITIES, client=client):
        handle = await tracked.start("Charging", 2, 1)
        with pytest.raises(WorkflowFailureError):
            await handle.result()
    run = await tracked.run(handle)
    for seen in (run, await tracked.corrected(handle, policy=policy)):
        [charge] = seen.steps
        for one in (seen, charge, *charge.tries):
            assert (one.error_type, one.error_message) == ("CardDeclined", None)
        assert charge.tries[0].error_stack is None
        assert charge.tries[0].annotations is None


@pytest.mark.parametrize(
    ("kind", "encoding", "held"),
    [
        ("nan", "json/plain", b"NaN"),
        ("infinity", "json/plain", b"-Infinity"),
        ("nul", "json/plain", rb'"a\u0000b"'),
        ("surrogate", "json/plain", rb'"\ud800"'),
        ("bytes", "binary/plain", b"\x00\xff"),
        ("none", None, None),
        ("large", "json/plain", "x" * 5000),
        ("long integer", "json/plain", 10**40),
        ("deep", "json/plain", [[[[[[1]]]]]]),
        ("unicode", "json/plain", "naïve ☕ 🚀"),
    ],
)
async def test_odd_values(tracked: Tracked, kind: str, encoding: str | None, held: Any) -> None:
    handle, run = await ran(tracked, "Odd", kind)
    for seen in (run, await tracked.corrected(handle)):
        assert (seen.status, seen.step("odd").status) == ("completed", "completed")
        assert seen.step("odd").output == (None if isinstance(held, bytes) else held)
    [step] = [s for s in await tracked.rows("step") if s["name"] == "odd"]
    stored = {row["id"]: row for row in await payloads_of(tracked, run)}
    if encoding is None:
        assert step["output_id"] is None
    else:
        row = stored[step["output_id"]]
        assert row["encoding"] == encoding
        assert (row["data"] == held) == isinstance(held, bytes)


@pytest.mark.parametrize(
    ("how", "name", "given", "output"),
    [
        (
            "dataclass",
            "take_card",
            [{"number": "4711", "months": [1, 2]}],
            {"number": "4711", "months": [1, 2, 12]},
        ),
        (
            "pydantic",
            "take_order",
            [{"id": 1, "price": 2.5, "due": "P1D"}],
            {"id": 1, "price": 2.5, "due": "P1D"},
        ),
        # The activity changes its argument: kept is what it was given.
        ("mutation", "take", [{"a": 1}, [None]], {"a": 1, "changed": True}),
    ],
)
async def test_typed_values(tracked: Tracked, how: str, name: str, given: Any, output: Any) -> None:
    client = tracked.client(data_converter=pydantic_data_converter)
    handle, run = await ran(tracked, "Typed", how, client=client)
    for seen in (run, await tracked.corrected(handle)):
        assert (seen.step(name).input, seen.step(name).output) == (given, output)
        assert seen.output == output


async def ran(
    tracked: Tracked, workflow: str, *args: Any, client: Any = None, **options: Any
) -> tuple[Handle, RecordedRun]:
    """A workflow that ran to its end, and what was recorded of it live."""
    client = client or tracked.client(**options)
    async with tracked.worker(WORKFLOWS, ACTIVITIES, client=client):
        handle = await tracked.start(workflow, *args, client=client)
        await handle.result()
    return handle, await tracked.run(handle)


async def payloads_of(tracked: Tracked, run: RecordedRun) -> list[dict[str, Any]]:
    """Stored payloads that the run and its steps point to."""
    owners = [*await tracked.rows("run"), *await tracked.rows("step")]
    ids = {owner[role] for owner in owners for role in ("input_id", "output_id")}
    return [row for row in await tracked.payloads() if row["id"] in ids]
