"""Reading stored values back: what was kept of them, as JSON where they are JSON."""

from __future__ import annotations

import json
from base64 import b64encode
from collections.abc import Iterable
from typing import Any
from uuid import UUID

from tracker.core.payloads import Opener, Sealed, Treatment, label_of
from tracker.models.wire import PayloadRead
from tracker.store import queries
from tracker.store.database import AsyncConnection, Database
from tracker.store.run_rows import Row

_NULL = "binary/null"
_KEPT = (Treatment.FULL, Treatment.REDACTED)
_DIGITS_MAX = 4000
"""Python refuses to read longer integers from text (`sys.get_int_max_str_digits`)."""


async def get_payloads(
    connection: AsyncConnection, database: Database, ids: Iterable[UUID | None]
) -> dict[UUID | None, PayloadRead]:
    """Stored values by id, one statement; ids that are None or purged are left out.

    Raises:
        DecryptionFailed: One is encrypted with a key that the database's opener has not.
    """
    wanted = {key for key in ids if key is not None}
    if not wanted:
        return {}
    sql = database.sql(queries.load("runs")["get_payloads"])
    cursor = await connection.execute(sql, {"ids": sorted(wanted)}, prepare=True)
    opener = database.options.opener
    return {row["id"]: payload_read(row, opener) for row in await cursor.fetchall()}


def payload_value(payload: PayloadRead | None) -> tuple[bool, Any]:
    """Whether a value can be shown as JSON, and the value."""
    if payload is None:
        return False, None
    if payload.encoding == _NULL:
        return True, None
    return "value" in payload.model_fields_set, payload.value


def read_json(text: str | bytes) -> Any:
    """Parse JSON of any origin; integers beyond what Python reads become floats."""
    return json.loads(text, parse_int=_integer)


def payload_read(row: Row, opener: Opener | None) -> PayloadRead:
    """A stored value from its row, with `body` as text.

    Raises:
        DecryptionFailed: It is encrypted with a key that the opener has not.
    """
    fields: dict[str, Any] = {
        "treatment": row["treatment"],
        "encoding": row["encoding"],
        "size": row["size"],
        "sha256": row["digest"].hex(),
    }
    if row["key_id"] is not None:
        fields["key_id"] = row["key_id"]
        if opener is None:
            return PayloadRead(**fields)
        return PayloadRead(**fields, **_opened(row, opener))
    if row["body"] is not None:
        fields["value"] = read_json(row["body"])
    elif row["data"] is not None:
        fields["base64"] = b64encode(row["data"]).decode()
        fields |= _json_of(row["encoding"], row["data"])
    elif row["treatment"] in _KEPT and row["encoding"].startswith("json/"):
        # A JSON null is written as no value at all.
        fields["value"] = None
    return PayloadRead(**fields)


def _opened(row: Row, opener: Opener) -> dict[str, Any]:
    label = label_of(row["digest"], row["treatment"], row["encoding"])
    clear = opener.open(Sealed(row["key_id"], row["data"]), label)
    return _json_of(row["encoding"], clear) or {"base64": b64encode(clear).decode()}


def _json_of(encoding: str, data: bytes) -> dict[str, Any]:
    """JSON that only jsonb refused (a NUL in a string, say) can still be shown; NaN and lone
    surrogates cannot go into an answer."""
    if not encoding.startswith("json/"):
        return {}
    try:
        value = read_json(data)
        json.dumps(value, allow_nan=False, ensure_ascii=False).encode()
    except (ValueError, RecursionError):
        return {}
    return {"value": value}


def _integer(digits: str) -> int | float:
    return int(digits) if len(digits) <= _DIGITS_MAX else float(digits)
