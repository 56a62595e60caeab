r"""What Postgres takes as jsonb and as text: told before it is asked, since one refused value would
cost the whole batch that it travels in.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from itertools import chain
from typing import Any, cast

NESTING_MAX = 200
"""Levels of a stored JSON value. Postgres takes thousands, but pydantic and orjson stop at 255
when they write it out again, and Python's own parser where its stack ends."""


def fits_jsonb(encoded: bytes) -> bool:
    r"""Whether Postgres accepts the text as jsonb: well-formed JSON in UTF-8 without NaN or
    Infinity, ``\u0000``, lone surrogates, and numbers beyond `numeric` (131,072 digits), nested no
    deeper than those who read it can follow."""
    try:
        # Decoded first: json.loads itself would take UTF-16, a byte order mark and surrogates.
        text = encoded.decode()
        json.loads(text, parse_constant=_refuse)
        return not _is_suspicious(encoded) or _is_clean(text)
    except (ValueError, RecursionError):
        return False


def recordable(values: Mapping[Any, Any]) -> dict[str, Any]:
    """The entries of a JSON object that a jsonb column takes. Others are left out: one odd value
    costs itself and not the facts beside it."""
    kept = {str(key): value for key, value in values.items()}
    return {key: value for key, value in kept.items() if is_recordable({key: value})}


def is_recordable(value: Any) -> bool:
    """Whether a JSON value fits a jsonb column and the batch that carries it there, which holds
    integers of 64 bits."""
    try:
        encoded = json.dumps(value, allow_nan=False).encode()
        if _LONG_INTEGER.search(encoded):
            json.loads(encoded, parse_int=_within_64_bits)
    except (TypeError, ValueError, RecursionError):
        return False
    return fits_jsonb(encoded)


def clean_text(text: str, limit: int = 64 * 1024) -> str:
    """Text that Postgres accepts: NUL and lone surrogates replaced, cut to `limit` characters."""
    if "\x00" in text:
        text = text.replace("\x00", "\N{REPLACEMENT CHARACTER}")
    if not text.isascii():
        text = text.encode("utf-8", "replace").decode()
    return text if len(text) <= limit else text[: limit - 1] + "…"


_SUSPICIOUS = re.compile(rb"\\u(?:0000|[dD][89a-fA-F])|[eE][+-]?\d{4}|\d{1000}")
_LONG_INTEGER = re.compile(rb"\d{19}")
_HUGE_NUMBER = re.compile(r"[eE][+-]?\d{5}|\d{1000}")


def _refuse(constant: str) -> Any:
    raise ValueError(constant)


def _is_suspicious(encoded: bytes) -> bool:
    """Whether only a closer look can tell; cheap, for nearly no value is."""
    if encoded.count(b"[") + encoded.count(b"{") > NESTING_MAX:
        return True
    return _SUSPICIOUS.search(encoded) is not None


def _is_clean(text: str) -> bool:
    # As pairs: of a key that stands twice a dict keeps one value, Postgres looks at both. Numbers
    # as they are written, and only they: every other UUID has an "e" with digits after it.
    value = json.loads(text, object_pairs_hook=_Members, parse_float=_number, parse_int=_number)
    pending: list[tuple[Any, int]] = [(value, 0)]
    while pending:
        item, depth = pending.pop()
        if isinstance(item, str):
            if _UNFIT_CHARACTER.search(item):
                return False
        elif (parts := _parts(item)) is not None:
            if depth == NESTING_MAX:
                return False
            pending.extend((part, depth + 1) for part in parts)
    return True


def _within_64_bits(written: str) -> None:
    if not -(1 << 63) <= int(written) < 1 << 64:
        raise ValueError(written)


def _number(written: str) -> None:
    if _HUGE_NUMBER.search(written):
        raise ValueError(written)


def _parts(value: Any) -> Iterable[Any] | None:
    if isinstance(value, _Members):
        return chain.from_iterable(value)
    return cast("list[Any]", value) if isinstance(value, list) else None


class _Members(tuple[tuple[str, Any], ...]):
    """Of a JSON object, all of them."""

    __slots__ = ()


_UNFIT_CHARACTER = re.compile("[\x00\ud800-\udfff]")
