"""The common parts of all tables: metadata, constraint names and column types."""

from __future__ import annotations

from typing import Any, ClassVar, cast

from sqlalchemy import JSON, BigInteger, MetaData, String, Table
from sqlalchemy.orm import DeclarativeBase

from relab.core.ids import MAX_ID_LENGTH

Micros = BigInteger
"""The column type of a time, as microseconds since 1970 (UTC) in 64 bits."""

IdText = String(MAX_ID_LENGTH)
"""The column type of an id that a user has chosen."""

OwnId = String(36)
"""The column type of an id that relab has generated: a UUIDv7 as text."""

ShortText = String(1_000)


class Base(DeclarativeBase):
    """The base of all ORM classes; constraint names are fixed so that migrations can name them."""

    metadata = MetaData(
        naming_convention={
            "ix": "ix_%(table_name)s_%(column_0_N_name)s",
            "uq": "uq_%(table_name)s_%(column_0_N_name)s",
            "fk": "fk_%(table_name)s_%(column_0_N_name)s_%(referred_table_name)s",
            "pk": "pk_%(table_name)s",
        }
    )
    type_annotation_map: ClassVar[dict[Any, Any]] = {dict[str, Any]: JSON, list[Any]: JSON}


def table_of(entity: type[Base]) -> Table:
    """Return the table of an ORM class, for INSERT, UPDATE and DELETE statements."""
    # A write through the class would search the session for objects to update; relab keeps no objects in sessions.
    return cast("Table", entity.__table__)
