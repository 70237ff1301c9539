"""What every table shares: the metadata, naming of constraints, and column types."""

from __future__ import annotations

from typing import Any, ClassVar, cast

from sqlalchemy import JSON, BigInteger, MetaData, String, Table
from sqlalchemy.orm import DeclarativeBase

from relab.core.ids import MAX_ID_LENGTH

Micros = BigInteger
"""A time as int64 UTC microseconds."""

IdText = String(MAX_ID_LENGTH)
"""An id chosen by a user."""

OwnId = String(36)
"""An id of ours: a UUIDv7 as text."""

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
    """Return the table of an ORM class, to write to.

    Writing through the class makes SQLAlchemy look for objects of it in the session to keep
    in step; here there are never any, and looking takes longer than the statement.
    """
    return cast("Table", entity.__table__)
