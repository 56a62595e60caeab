"""Request bodies as strict JSON: Python's own parser also takes NaN, Infinity and 1e999, which no
other language's worker could read back."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Coroutine
from typing import Any

from fastapi import Request, Response
from fastapi.routing import APIRoute


class StrictJsonRoute(APIRoute):
    """A route whose body must be JSON as RFC 8259 has it, with numbers that a double can hold."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """See FastAPI."""
        handler = super().get_route_handler()

        async def strictly(request: Request) -> Response:
            return await handler(_StrictRequest(request.scope, request.receive))

        return strictly


class _StrictRequest(Request):
    async def json(self) -> Any:
        body = await self.body()
        try:
            return json.loads(body, parse_constant=_refuse, parse_float=_finite, parse_int=_integer)
        except json.JSONDecodeError:
            raise
        except (ValueError, RecursionError) as error:
            raise json.JSONDecodeError(str(error) or type(error).__name__, "", 0) from error


def _refuse(constant: str) -> Any:
    raise ValueError(f"{constant} is no JSON")


def _finite(number: str) -> float:
    value = float(number)
    if not math.isfinite(value):
        raise ValueError("a number is too large")
    return value


def _integer(number: str) -> int:
    if len(number) > _DIGITS_MAX:
        raise ValueError("an integer is too long")
    return int(number)


_DIGITS_MAX = 1000
"""As for what the tracker stores as jsonb (`core.payloads`)."""
