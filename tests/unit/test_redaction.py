"""`Redact` in types: what is found in their JSON, and that nothing marked gets through."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import (
    Annotated,
    Any,
    Generic,
    Literal,
    NamedTuple,
    NewType,
    NotRequired,
    TypedDict,
    TypeVar,
)

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, Field, RootModel

from tracker.core.redaction import (
    REDACTED,
    Redact,
    redaction_of,
    redaction_of_arguments,
    redaction_of_result,
)
from tracker.errors import ConfigurationError

T = TypeVar("T")
Secret = Annotated[str, Redact]
Token = NewType("Token", Secret)  # pyright: ignore[reportGeneralTypeIssues]


def last_two(value: str) -> str:
    return f"…{value[-2:]}"


@dataclass
class Card:
    number: Secret
    holder: Annotated[str, Redact(last_two)]
    month: int = 1


@dataclass
class Order:
    id: str
    card: Card | None = None
    others: list[Card] = field(default_factory=list[Card])
    parent: Order | None = None


class Patient(BaseModel):
    name: Secret
    born: Annotated[datetime | None, Redact] = None
    cards: dict[str, Card] = Field(default_factory=dict[str, Card])
    ssn: Annotated[str, Redact, Field(alias="socialSecurity", min_length=1)] = "?"


class Ward(RootModel[list[Patient]]):
    pass


class Point(NamedTuple):
    label: str
    secret: Secret


class Loose(TypedDict):
    a: NotRequired[Secret]
    b: int


@dataclass
class Box(Generic[T]):
    content: T
    label: str = ""


CARD = {"number": "4242", "holder": "Ada Lovelace", "month": 3}
CLEARED = {"number": REDACTED, "holder": "…ce", "month": 3}


@pytest.mark.parametrize(
    ("annotation", "value", "kept"),
    [
        (Secret, "s", REDACTED),
        (Secret, None, None),
        (Card, CARD, CLEARED),
        (Card, None, None),
        (Card | None, CARD, CLEARED),
        (list[Card], [CARD, None, CARD], [CLEARED, None, CLEARED]),
        (Sequence[Card], [CARD], [CLEARED]),
        (Iterable[Card], [CARD], [CLEARED]),
        (set[Secret], ["a", "b"], [REDACTED, REDACTED]),
        (tuple[int, Secret], [1, "s", "more"], [1, REDACTED, "more"]),
        (tuple[Card, ...], [CARD, CARD], [CLEARED, CLEARED]),
        (dict[str, Card], {"x": CARD}, {"x": CLEARED}),
        (Mapping[str, list[Card]], {"x": [CARD]}, {"x": [CLEARED]}),
        (dict[Secret, int], {"s": 1}, REDACTED),
        (
            Order,
            {"id": "o", "card": CARD, "others": [CARD], "parent": {"id": "p", "card": CARD}},
            {
                "id": "o",
                "card": CLEARED,
                "others": [CLEARED],
                "parent": {"id": "p", "card": CLEARED},
            },
        ),
        (
            Patient,
            {"name": "Ada", "born": None, "cards": {"a": CARD}, "socialSecurity": "1"},
            {"name": REDACTED, "born": None, "cards": {"a": CLEARED}, "socialSecurity": REDACTED},
        ),
        (Patient, {"name": "Ada", "ssn": "1"}, {"name": REDACTED, "ssn": REDACTED}),
        (Ward, [{"name": "Ada"}], [{"name": REDACTED}]),
        (Point, ["x", "s"], ["x", REDACTED]),
        (Point, {"label": "x", "secret": "s"}, {"label": "x", "secret": REDACTED}),
        (Loose, {"a": "s", "b": 1}, {"a": REDACTED, "b": 1}),
        (Token, "s", REDACTED),
        (Box[Card], {"content": CARD, "label": "x"}, {"content": CLEARED, "label": "x"}),
        (Box[list[Secret]], {"content": ["s"]}, {"content": [REDACTED]}),
        # Another shape than the type has: of an older version, or a custom converter.
        (Card, "4242 Ada", REDACTED),
        (list[Card], CARD, REDACTED),
        (Order, {"id": "o", "card": "4242"}, {"id": "o", "card": REDACTED}),
        # A union: what may be another member is left to it.
        (str | Card, "text", "text"),
        (str | Card, CARD, CLEARED),
        (str | Card, ["4242"], REDACTED),
        (Card | None, "4242", REDACTED),
        # A mask that fails costs its value alone.
        (Card, {"number": "1", "holder": 7}, {"number": REDACTED, "holder": "[redaction failed]"}),
        (Order | Card, CARD, CLEARED),
    ],
    ids=str,
)
def test_marks_are_found(annotation: Any, value: Any, kept: Any) -> None:
    redact = redaction_of(annotation)
    assert redact is not None
    before = json.dumps(value)
    assert redact(value) == kept
    assert json.dumps(value) == before, "the value itself must not change"


@pytest.mark.parametrize(
    "annotation",
    [int, str, None, Any, object, datetime, list[int], dict[str, Any], Literal["a"], Box[int], T],
    ids=str,
)
def test_types_without_marks_need_nothing(annotation: Any) -> None:
    assert redaction_of(annotation) is None


def test_arguments_by_position_and_results() -> None:
    def charge(order_id: str, card: Card, *more: Secret) -> list[Card]:
        raise NotImplementedError(order_id, card, more)

    redact = redaction_of_arguments(charge)
    assert redact is not None
    assert redact(["o-1", CARD, "a", "b"]) == ["o-1", CLEARED, REDACTED, REDACTED]
    assert redact(["o-1"]) == ["o-1"]
    result = redaction_of_result(charge)
    assert result is not None
    assert result([CARD]) == [CLEARED]


def test_a_method_is_read_without_itself() -> None:
    class Payments:
        def charge(self, card: Secret) -> None:
            raise NotImplementedError(card)

    redact = redaction_of_arguments(Payments.charge)
    assert redact is not None
    assert redact(["4242"]) == [REDACTED]
    bound = redaction_of_arguments(Payments().charge)
    assert bound is not None
    assert bound(["4242"]) == [REDACTED]
    assert redaction_of_result(Payments.charge) is None


def test_what_cannot_be_read_is_an_error_and_not_silence() -> None:
    namespace: dict[str, Any] = {}
    source = "from __future__ import annotations\ndef charge(card: OnlyWhenTypeChecking): ...\n"
    exec(source, namespace)
    with pytest.raises(ConfigurationError, match="OnlyWhenTypeChecking"):
        redaction_of_arguments(namespace["charge"])


values = st.recursive(
    st.none() | st.integers() | st.just("SECRET"),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["number", "holder", "card", "id", "others"]), inner)
    ),
    max_leaves=8,
)


@given(value=values)
def test_whatever_the_json_is_no_marked_part_gets_through(value: Any) -> None:
    redact = redaction_of(Order)
    assert redact is not None
    kept = redact(value)
    if isinstance(value, dict):
        if "card" in value:
            assert_clean(kept["card"], value["card"])
        others = value.get("others")
        if isinstance(others, list):
            for card, one in zip(kept["others"], others, strict=True):
                assert_clean(card, one)
        elif others is not None:
            assert kept["others"] == REDACTED
    else:
        assert kept == (None if value is None else REDACTED)


def assert_clean(kept: Any, card: Any) -> None:
    """What is kept of a card, whatever it was."""
    if isinstance(card, dict):
        assert kept.get("number") in (None, REDACTED)
        assert kept.get("holder") is None or kept["holder"] != card["holder"]
    else:
        assert kept == (None if card is None else REDACTED)
