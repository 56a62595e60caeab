"""The one kind of route that this API has: strict about what it is sent, and quick about it.

Query parameters that a route does not know are refused: a mistyped filter that is ignored would
answer with everything. Bodies are strict JSON: Python's own parser also takes NaN, Infinity and
1e999, which no other language's worker could read back.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Coroutine, Iterator
from typing import Any

from fastapi import Request, Response
from fastapi.dependencies.models import Dependant
from fastapi.routing import APIRoute

from api.auth import SECURITY, scope_of
from api.parameters import reads_whole_query, unknown_parameters

_DIGITS_MAX = 1000
"""Of an integer, as in what the tracker stores as jsonb (`core.payloads`)."""


class Route(APIRoute):
    """A route that refuses what it does not know; its dependencies say which scope it needs."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        dependants = list(_all(self.dependant))
        calls = [dependant.call for dependant in dependants if dependant.call is not None]
        self.scope = next(filter(None, map(scope_of, calls)), None)
        """Needed of the caller's key; None: anybody may call it."""
        if self.scope is not None:
            self.openapi_extra = {**(self.openapi_extra or {}), "security": SECURITY}
        names = {parameter.alias for each in dependants for parameter in each.query_params}
        self._known = None if any(map(reads_whole_query, calls)) else frozenset(names)

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """See FastAPI."""
        handle = super().get_route_handler()

        async def strictly(request: Request) -> Response:
            if request.scope["query_string"] and self._known is not None:
                unknown = [name for name in request.query_params if name not in self._known]
                if unknown:
                    raise unknown_parameters(unknown, self._known)
            return await handle(_StrictRequest(request.scope, request.receive))

        return strictly


def strict_json(text: str | bytes) -> Any:
    """A JSON value as other languages read it too.

    Raises:
        json.JSONDecodeError: It is none.
    """
    try:
        return json.loads(text, parse_constant=_refuse, parse_float=_finite, parse_int=_integer)
    except json.JSONDecodeError:
        raise
    except (ValueError, RecursionError) as error:
        raise json.JSONDecodeError(str(error) or type(error).__name__, "", 0) from error


class _StrictRequest(Request):
    async def json(self) -> Any:
        return strict_json(await self.body())


def _all(dependant: Dependant) -> Iterator[Dependant]:
    yield dependant
    for inner in dependant.dependencies:
        yield from _all(inner)


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
