"""Column types of the table classes, and their base, whose metadata is its own: a user's
`SQLModel.metadata.create_all` never makes our tables."""

from __future__ import annotations

import re
from collections.abc import Iterable
from datetime import datetime
from enum import StrEnum
from typing import Annotated, Any, cast

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    DateTime,
    Index,
    LargeBinary,
    Text,
    UniqueConstraint,
    text,
)
from sqlalchemy.dialects.postgresql import ARRAY, JSONB
from sqlalchemy.orm import declared_attr, registry
from sqlmodel import Field, SQLModel

# SQLModel takes instances where its signature asks for a class.
TIMESTAMPTZ = cast("type[Any]", DateTime(timezone=True))
TEXT_ARRAY = cast("type[Any]", ARRAY(Text))

Str = Annotated[str, Field(sa_type=Text)]
KeyStr = Annotated[str, Field(sa_type=Text, primary_key=True)]
OptionalStr = Annotated[str | None, Field(sa_type=Text)]
BigInt = Annotated[int, Field(sa_type=BigInteger)]
OptionalBigInt = Annotated[int | None, Field(sa_type=BigInteger)]
Bytes = Annotated[bytes, Field(sa_type=LargeBinary)]
OptionalBytes = Annotated[bytes | None, Field(sa_type=LargeBinary)]
Moment = Annotated[datetime, Field(sa_type=TIMESTAMPTZ)]
MomentOfInsert = Annotated[
    datetime, Field(sa_type=TIMESTAMPTZ, sa_column_kwargs={"server_default": text("now()")})
]
MomentOfChange = Annotated[
    datetime,
    Field(sa_type=TIMESTAMPTZ, sa_column_kwargs={"server_default": text("clock_timestamp()")}),
]
OptionalMoment = Annotated[datetime | None, Field(sa_type=TIMESTAMPTZ)]
Json = Annotated[Any, Field(sa_type=JSONB, nullable=False)]
OptionalJson = Annotated[Any | None, Field(sa_type=JSONB, nullable=True)]
# `metadata` is SQLAlchemy's own name on a table class.
Metadata = Annotated[
    Any | None, Field(sa_type=JSONB, nullable=True, sa_column_kwargs={"name": "metadata"})
]

_WORD_START = re.compile(r"(?<!^)(?=[A-Z])")


class TrackerRow(SQLModel, registry=registry()):
    """Base of the table classes; `TrackerRow.metadata` holds them all. `RunRefRow` is `run_ref`."""

    @declared_attr.directive
    def __tablename__(cls) -> str:  # pyright: ignore[reportIncompatibleVariableOverride]
        return _WORD_START.sub("_", cls.__name__.removesuffix("Row")).lower()


def index(name: str, columns: str, where: str | None = None) -> Index:
    """An index on these columns ("namespace, ordered_at, id"), partial with `where`."""
    predicate = None if where is None else text(where)
    return Index(name, *columns.split(", "), postgresql_where=predicate)


def unique(name: str, columns: str, *, nulls_equal: bool = False) -> UniqueConstraint:
    """A unique constraint; with `nulls_equal`, absent values count as one value."""
    return UniqueConstraint(
        *columns.split(", "), name=name, postgresql_nulls_not_distinct=nulls_equal
    )


def check(name: str, condition: str) -> CheckConstraint:
    """A CHECK."""
    return CheckConstraint(condition, name=name)


def one_of(column: str, values: Iterable[StrEnum]) -> str:
    """A condition: the column holds one of these."""
    return f"{column} IN ({', '.join(repr(value.value) for value in values)})"
