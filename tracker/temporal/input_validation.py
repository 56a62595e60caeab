"""Checks a start's arguments against the JSON Schema that the type's workers announced, so that a
wrong input is refused while its sender listens, instead of failing a workflow task for ever."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, cast

from jsonschema import Draft202012Validator
from jsonschema.exceptions import (
    SchemaError,
    ValidationError,
    best_match,  # pyright: ignore[reportUnknownVariableType]
)
from referencing import Registry
from referencing.exceptions import Unresolvable

from tracker.errors import InvalidRequest

VALUE_SHOWN = 80
"""Characters of a wrong value that the message repeats."""


class InputValidator:
    """Validates against one schema; made once per schema, since that costs more than using it.

    What cannot be understood of the schema is not held against the input: the workflow decides.

    Args:
        schema: Of the argument list: an array with `prefixItems`.
    """

    def __init__(self, schema: Mapping[str, Any]) -> None:
        # An empty registry: a reference that leaves the schema is an error, never a download.
        self._validator: Any = Draft202012Validator(dict(schema), registry=Registry())
        try:
            Draft202012Validator.check_schema(dict(schema))
        except SchemaError:
            self._validator = Draft202012Validator({})

    def check(self, arguments: list[Any], *, single: bool) -> None:
        """Validate an argument list.

        Args:
            single: Whether it was given as `input`, which the message then names.

        Raises:
            InvalidRequest: `details["field"]` names the place, e.g. `input.recipients[2]`.
        """
        try:
            error = _most_telling(self._validator.iter_errors(arguments))
        except Unresolvable:
            return
        if error is None:
            return
        field = _field([*error.absolute_path, *_missing(error)], single=single)
        raise InvalidRequest(f"{field}: {_short(error.message)}", field=field)


# The library's own types leave it unknown.
_most_telling = cast("Callable[[Iterable[ValidationError]], ValidationError | None]", best_match)


def _missing(error: ValidationError) -> list[str]:
    """Of a required property that is absent, its name: the error's path ends at its object."""
    if error.validator != "required":
        return []
    required: Any = error.validator_value
    return [name for name in required if name not in error.instance][:1]


def _field(parts: list[str | int], *, single: bool) -> str:
    if single and parts:
        field, parts = "input", parts[1:]
    else:
        field = "input" if single else "args"
    for part in parts:
        field += f"[{part}]" if isinstance(part, int) else f".{part}"
    return field


def _short(message: str) -> str:
    """jsonschema repeats the whole wrong value at the start of its message."""
    if len(message) <= 2 * VALUE_SHOWN:
        return message
    return f"{message[:VALUE_SHOWN]} … {message[-VALUE_SHOWN:]}"
