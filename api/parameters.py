"""Query parameters read into a model, by the model's own rules.

FastAPI's query models know neither `metadata.<key>=` nor what to do about its repetition, and cost
more than the query behind them. Unknown parameters are refused on every route: a mistyped filter
that is ignored would answer with everything.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, TypeVar, cast, get_origin

from fastapi import Depends, Request
from fastapi.dependencies.models import Dependant
from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute
from pydantic import BaseModel, ValidationError

M = TypeVar("M", bound=BaseModel)
METADATA = "metadata"
_PREFIX = f"{METADATA}."
_MODEL_OF: dict[Callable[..., Any], type[BaseModel]] = {}


def from_query(model: type[M]) -> Any:
    """`Depends` on what reads the query into a model; list fields are repeatable, and a field
    `metadata` is read from `metadata.<key>=`."""
    lists = {name for name, f in model.model_fields.items() if get_origin(f.annotation) is list}
    takes_metadata = METADATA in model.model_fields

    async def read(request: Request) -> M:
        values: dict[str, Any] = {}
        for name, value in request.query_params.multi_items():
            if takes_metadata and name.startswith(_PREFIX):
                labels = cast("dict[str, list[str]]", values.setdefault(METADATA, {}))
                labels.setdefault(name.removeprefix(_PREFIX), []).append(value)
            elif name in lists:
                values.setdefault(name, []).append(value)
            elif name != METADATA:
                values[name] = value
            else:
                raise _unknown([name], model.model_fields)
        try:
            return model.model_validate(values)
        except ValidationError as error:
            raise _translated(error, model) from error

    _MODEL_OF[read] = model
    return Depends(read)


def documented(model: type[BaseModel]) -> dict[str, Any]:
    """The `openapi_extra` of a route that reads its query into a model."""
    schema = model.model_json_schema(ref_template="#/components/schemas/{model}")
    return {"parameters": [_parameter(n, p) for n, p in schema["properties"].items()]}


async def known_parameters(request: Request) -> None:
    """Refuse query parameters of routes that read them one by one, or none.

    Raises:
        RequestValidationError: Naming the parameter.
    """
    route = request.scope.get("route")
    if not request.query_params or not isinstance(route, APIRoute):
        return
    dependants = list(_all(route.dependant))
    if any(dependant.call in _MODEL_OF for dependant in dependants):
        return
    known = {p.alias for dependant in dependants for p in dependant.query_params}
    unknown = [name for name in request.query_params if name not in known]
    if unknown:
        raise _unknown(unknown, known)


def _translated(error: ValidationError, model: type[BaseModel]) -> RequestValidationError:
    problems = error.errors(include_url=False, include_input=False, include_context=False)
    for problem in problems:
        if problem["type"] == "extra_forbidden":
            return _unknown([str(problem["loc"][0])], model.model_fields)
    return RequestValidationError([{**p, "loc": ("query", *p["loc"])} for p in problems])


def _unknown(names: list[str], known: Any) -> RequestValidationError:
    message = f"unknown parameter; known here: {', '.join(sorted(known)) or 'none'}"
    return RequestValidationError(
        [{"type": "extra_forbidden", "loc": ("query", name), "msg": message} for name in names]
    )


def _all(dependant: Dependant) -> Iterator[Dependant]:
    yield dependant
    for inner in dependant.dependencies:
        yield from _all(inner)


def _parameter(name: str, schema: dict[str, Any]) -> dict[str, Any]:
    if name == METADATA:
        return _METADATA_PARAMETER
    described = {"description": schema["description"]} if "description" in schema else {}
    plain = {key: v for key, v in schema.items() if key not in ("title", "description")}
    return {"name": name, "in": "query", "required": False, **described, "schema": plain}


_METADATA_PARAMETER: dict[str, Any] = {
    "name": "metadata.{key}",
    "in": "query",
    "required": False,
    "description": "Value of a metadata key, for example `metadata.department=marketing`. "
    "Repeatable: any value of a key, every key.",
    "schema": {
        "type": "array",
        "items": {"type": "string", "maxLength": 256},
        "maxItems": 50,
    },
}
