"""`Redact`: marks in types what must not be stored, and what finds the marked parts in JSON.

    @dataclass
    class Card:
        number: Annotated[str, Redact]
        holder: Annotated[str, Redact(lambda name: name[:1])]

What a reader gets wrong: the JSON comes from history too, so it may be of an older version of the
type. Where a marked part cannot be found because the shape differs, all of it is redacted.
"""

from __future__ import annotations

import types
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from inspect import Parameter, signature
from itertools import chain, repeat
from typing import (
    Annotated,
    Any,
    ClassVar,
    TypeVar,
    Union,
    cast,
    get_args,
    get_origin,
    get_type_hints,
)

from tracker.errors import ConfigurationError

REDACTED = "[redacted]"
"""Stands where a marked value was."""
FAILED = "[redaction failed]"
"""Stands where a user's callable failed: it must not let the clear value through."""

Redaction = Callable[[Any], Any]
"""Gets a decoded JSON value, returns what may be stored of it."""


class Redact:
    """Marks a type for redaction: `Annotated[str, Redact]`.

    Null stays null: that a value was not given is told.

    Args:
        mask: Makes what is kept of the JSON value; `"[redaction failed]"` where it fails. None:
            `"[redacted]"`.
    """

    def __init__(self, mask: Redaction | None = None) -> None:
        self._mask = mask

    def __call__(self, value: Any) -> Any:
        """What is kept of a JSON value."""
        if value is None:
            return None
        if self._mask is None:
            return REDACTED
        try:
            return self._mask(value)
        except Exception:
            return FAILED


def redaction_of(annotation: Any) -> Redaction | None:
    """What redacts the JSON of a type.

    Args:
        annotation: A dataclass, pydantic model, TypedDict, NamedTuple or any other class with
            annotated fields; lists, sets, tuples, mappings, unions and generics of them.

    Returns:
        None where nothing in the type is marked.

    Raises:
        ConfigurationError: A name in its annotations cannot be resolved.
    """
    return _Reader().shape(annotation, {}).redaction()


def redaction_of_arguments(function: Callable[..., Any]) -> Redaction | None:
    """What redacts the argument list of a function or method, one JSON array.

    Raises:
        ConfigurationError: As `redaction_of`.
    """
    hints, reader = _hints(function), _Reader()
    rest, shapes = _Plain(), list[_Shape]()
    for name, parameter in signature(function).parameters.items():
        shape = reader.shape(hints.get(name, Any), {})
        if parameter.kind is Parameter.VAR_POSITIONAL:
            rest = shape
        elif name != "self":
            shapes.append(shape)
    return _Items(tuple(shapes), rest).redaction()


def redaction_of_result(function: Callable[..., Any]) -> Redaction | None:
    """What redacts a function's result.

    Raises:
        ConfigurationError: As `redaction_of`.
    """
    return _Reader().shape(_hints(function).get("return", Any), {}).redaction()


class _Shape:
    """What is known of a part of the JSON."""

    def is_marked(self, seen: set[int]) -> bool:
        """Whether there is a mark in it or below; `seen` ends recursion."""
        del seen
        return False

    def fits(self, value: Any) -> bool:
        """Whether the value can be of this shape."""
        del value
        return True

    def apply(self, value: Any) -> Any:
        """The value without what is marked."""
        return value

    def redaction(self) -> Redaction | None:
        """The shape as a function, if there is a mark in it."""
        return self.cleared if self._marked else None

    def cleared(self, value: Any) -> Any:
        """`apply`, or nothing of a value that does not fit."""
        if value is None or not self._marked:
            return value
        return self.apply(value) if self.fits(value) else REDACTED

    @cached_property
    def _marked(self) -> bool:
        return self.is_marked(set())


class _Plain(_Shape):
    """Nothing to redact, and anything may be in it."""


@dataclass(eq=False)
class _Scalar(_Shape):
    """Nothing to redact, and nothing but this can be it."""

    kinds: tuple[type, ...]

    def fits(self, value: Any) -> bool:
        return isinstance(value, self.kinds)


@dataclass(eq=False)
class _Whole(_Shape):
    """Marked itself."""

    mask: Redact

    def is_marked(self, seen: set[int]) -> bool:
        return True

    def apply(self, value: Any) -> Any:
        return self.mask(value)


@dataclass(eq=False)
class _Items(_Shape):
    """An array: shapes by position, and one for the rest."""

    first: tuple[_Shape, ...]
    rest: _Shape

    def is_marked(self, seen: set[int]) -> bool:
        return any(shape.is_marked(seen) for shape in (*self.first, self.rest))

    def fits(self, value: Any) -> bool:
        return isinstance(value, list)

    def apply(self, value: list[Any]) -> Any:
        shapes = chain(self.first, repeat(self.rest))
        return [shape.cleared(item) for shape, item in zip(shapes, value, strict=False)]


@dataclass(eq=False)
class _Values(_Shape):
    """An object with any names."""

    value: _Shape

    def is_marked(self, seen: set[int]) -> bool:
        return self.value.is_marked(seen)

    def fits(self, value: Any) -> bool:
        return isinstance(value, dict)

    def apply(self, value: dict[str, Any]) -> Any:
        return {name: self.value.cleared(item) for name, item in value.items()}


@dataclass(eq=False)
class _Fields(_Shape):
    """An object with known names, or an array in their order (NamedTuple)."""

    fields: dict[str, _Shape] = field(default_factory=dict[str, _Shape])
    names: dict[str, tuple[str, ...]] = field(default_factory=dict[str, tuple[str, ...]])
    is_tuple: bool = False

    def is_marked(self, seen: set[int]) -> bool:
        if id(self) in seen:
            return False
        seen.add(id(self))
        return any(shape.is_marked(seen) for shape in self.fields.values())

    def fits(self, value: Any) -> bool:
        return isinstance(value, dict) or (self.is_tuple and isinstance(value, list))

    def apply(self, value: Any) -> Any:
        if isinstance(value, list):
            in_order = tuple(self.fields.values())
            return _Items(in_order, _Plain()).apply(cast("list[Any]", value))
        kept = dict(cast("dict[str, Any]", value))
        for name, shape in self.fields.items():
            for written in self.names.get(name, (name,)):
                if written in kept:
                    kept[written] = shape.cleared(kept[written])
        return kept


@dataclass(eq=False)
class _Either(_Shape):
    """A union: which one a value is cannot be told, so every shape that fits is applied."""

    shapes: tuple[_Shape, ...]

    def is_marked(self, seen: set[int]) -> bool:
        return any(shape.is_marked(seen) for shape in self.shapes)

    def fits(self, value: Any) -> bool:
        return any(shape.fits(value) for shape in self.shapes)

    def apply(self, value: Any) -> Any:
        for shape in self.shapes:
            if shape.fits(value):
                value = shape.cleared(value)
        return value


_NOTHING = _Plain()
_SCALARS: dict[Any, _Shape] = {
    str: _Scalar((str,)),
    bool: _Scalar((bool,)),
    int: _Scalar((int,)),
    float: _Scalar((int, float)),
    type(None): _Scalar((type(None),)),
}
_Bound = Mapping[Any, _Shape]


class _Reader:
    """Reads annotations; one per type, since it remembers classes to end recursion."""

    def __init__(self) -> None:
        self._known: dict[Any, _Fields] = {}

    def shape(self, annotation: Any, bound: _Bound) -> _Shape:
        """The shape of what has this annotation.

        Args:
            bound: Shapes of the type variables of a generic.
        """
        if isinstance(annotation, TypeVar):
            return bound.get(annotation, _NOTHING)
        origin, arguments = get_origin(annotation), get_args(annotation)
        if origin is Annotated:
            return _mark_of(arguments[1:]) or self.shape(arguments[0], bound)
        if origin in (Union, types.UnionType):
            return _Either(tuple(self.shape(one, bound) for one in arguments))
        if origin is ClassVar:
            return _NOTHING
        shapes = [self.shape(one, bound) for one in arguments if one is not Ellipsis]
        named = annotation if origin is None else origin
        for attribute in ("__value__", "__supertype__"):  # `type X = …`, `NewType`
            if (aliased := getattr(named, attribute, None)) is not None:
                return self.shape(aliased, _binding(named, shapes))
        if origin is None:
            return self._class(annotation, {}) if isinstance(annotation, type) else _NOTHING
        return self._generic(origin, shapes, is_fixed=Ellipsis not in arguments)

    def _generic(self, origin: Any, shapes: list[_Shape], *, is_fixed: bool) -> _Shape:
        if not isinstance(origin, type):
            # Required[…], Final[…] and the like say something about what is in them.
            return shapes[0] if shapes else _NOTHING
        generic: Any = origin
        if issubclass(origin, tuple) and is_fixed:
            return _Items(tuple(shapes), _NOTHING)
        if issubclass(origin, Mapping):
            # Marked names would stay in the keys: nothing of it is kept.
            is_marked = shapes[0].redaction() is not None
            return _Whole(Redact()) if is_marked else _Values(shapes[-1])
        binding = _binding(generic, shapes)
        return self._class(generic, binding) if binding else _Items((), shapes[0])

    def _class(self, cls: type[Any], bound: _Bound) -> _Shape:
        key = (cls, *map(id, bound.values()))
        if key in self._known:
            return self._known[key]
        if cls.__module__ == "builtins":
            return _SCALARS.get(cls, _NOTHING)
        found = self._known[key] = _Fields(is_tuple=issubclass(cls, tuple))
        found.fields.update(
            {name: self.shape(hint, bound) for name, hint in _hints_of_class(cls).items()}
        )
        found.names.update(_written(cls))
        return found.fields["root"] if getattr(cls, "__pydantic_root_model__", False) else found


def _mark_of(metadata: tuple[Any, ...]) -> _Shape | None:
    for one in metadata:
        if isinstance(one, Redact):
            return _Whole(one)
        if one is Redact:
            return _Whole(Redact())
    return None


def _written(cls: type) -> dict[str, tuple[str, ...]]:
    """Names of fields as a pydantic model writes them, where it has others for them."""
    names: dict[str, tuple[str, ...]] = {}
    for name, info in getattr(cls, "__pydantic_fields__", {}).items():
        aliases = (getattr(info, "serialization_alias", None), getattr(info, "alias", None))
        names[name] = (name, *{alias for alias in aliases if isinstance(alias, str)})
    return names


def _binding(generic: Any, shapes: Sequence[_Shape]) -> _Bound:
    parameters = getattr(generic, "__type_params__", ()) or getattr(generic, "__parameters__", ())
    return dict(zip(parameters, shapes, strict=False))


_OF_RECORDS = ("__dataclass_fields__", "_fields", "__total__", "__attrs_attrs__")
"""Attributes of dataclasses, NamedTuples, TypedDicts, attrs classes."""


def _hints_of_class(cls: type[Any]) -> dict[str, Any]:
    fields: dict[str, Any] | None = getattr(cls, "__pydantic_fields__", None)
    if fields is not None:
        # Resolved by pydantic already, with the marks of the field itself taken out.
        return {
            name: Annotated[info.annotation, *info.metadata] if info.metadata else info.annotation
            for name, info in fields.items()
        }
    try:
        return get_type_hints(cls, include_extras=True)
    except Exception as error:
        if not any(hasattr(cls, mark) for mark in _OF_RECORDS):
            return {}  # Some class of a library, which marks nothing.
        raise _unreadable(cls, error) from error


def _hints(function: Callable[..., Any]) -> dict[str, Any]:
    try:
        return get_type_hints(function, include_extras=True)
    except Exception as error:
        raise _unreadable(function, error) from error


def _unreadable(of: Any, error: Exception) -> ConfigurationError:
    return ConfigurationError(
        f"cannot read the types of {of.__module__}.{of.__qualname__} to find what is marked with "
        f"Redact: {error}; import them when the module is loaded, not under TYPE_CHECKING only"
    )
