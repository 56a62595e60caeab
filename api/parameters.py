"""Query parameters read into a model, by the model's own rules.

FastAPI's query models know neither `metadata.<key>=` nor what to do about its repetition, and cost
more than the query behind them.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from typing import Any, TypeVar, cast, get_origin

from fastapi import Depends, Request
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, ValidationError

M = TypeVar("M", bound=BaseModel)
METADATA = "metadata"
_PREFIX = f"{METADATA}."
_READERS: set[Callable[..., Any]] = set()


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
                raise unknown_parameters([name], model.model_fields)
        try:
            return model.model_validate(values)
        except ValidationError as error:
            raise _translated(error, model) from error

    _READERS.add(read)
    return Depends(read)


def reads_whole_query(call: Callable[..., Any]) -> bool:
    """Whether a dependency is of `from_query`, and so refuses itself what it does not know."""
    return call in _READERS


def unknown_parameters(names: Sequence[str], known: Collection[str]) -> RequestValidationError:
    """The error for parameters that a route does not know."""
    message = f"unknown parameter; known here: {', '.join(sorted(known)) or 'none'}"
    return RequestValidationError(
        [{"type": "extra_forbidden", "loc": ("query", name), "msg": message} for name in names]
    )


def documented(model: type[BaseModel]) -> dict[str, Any]:
    """The `openapi_extra` of a route that reads its query into a model."""
    schema = model.model_json_schema(ref_template="#/components/schemas/{model}")
    return {"parameters": [_parameter(n, p) for n, p in schema["properties"].items()]}


def _translated(error: ValidationError, model: type[BaseModel]) -> RequestValidationError:
    problems = error.errors(include_url=False, include_input=False, include_context=False)
    for problem in problems:
        if problem["type"] == "extra_forbidden":
            return unknown_parameters([str(problem["loc"][0])], model.model_fields)
    return RequestValidationError([{**p, "loc": ("query", *p["loc"])} for p in problems])


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
