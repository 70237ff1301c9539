"""The common parts of all tables: metadata, constraint names and column types."""

from __future__ import annotations

from types import NoneType
from typing import Any, ClassVar, get_args, get_origin, get_type_hints

from sqlalchemy import BigInteger, Column, ColumnClause, MetaData, String, Table
from sqlalchemy.schema import SchemaItem

from relab.core.ids import MAX_ID_LENGTH

Micros = BigInteger
"""The column type of a time, as microseconds since 1970 (UTC) in 64 bits."""

IdText = String(MAX_ID_LENGTH)
"""The column type of an id that a user has chosen."""

OwnId = String(36)
"""The column type of an id that relab has generated: a UUIDv7 as text."""

ShortText = String(1_000)


def column(*arguments: Any, **options: Any) -> Any:
    """Return a column for a class that describes a table; the arguments are those of SQLAlchemy's `Column`.

    The attribute gives the column its name if the first argument is not a name.
    """
    return Column(*arguments, **options)


class Base:
    """The base of all classes that describe a table. Each attribute `name: ColumnClause[type] = column(...)` is a column.

    A column may be NULL if its type has None. SQLAlchemy's statements accept such a class as its table. It is not an
    ORM class, because loading the ORM takes longer than most commands need for their reads.

    Attributes:
        metadata: all tables; constraint names are fixed so that migrations can name them.
    """

    metadata: ClassVar[MetaData] = MetaData(
        naming_convention={
            "ix": "ix_%(table_name)s_%(column_0_N_name)s",
            "uq": "uq_%(table_name)s_%(column_0_N_name)s",
            "fk": "fk_%(table_name)s_%(column_0_N_name)s_%(referred_table_name)s",
            "pk": "pk_%(table_name)s",
        }
    )
    __table__: ClassVar[Table]
    __tablename__: ClassVar[str]
    __table_args__: ClassVar[tuple[SchemaItem, ...]] = ()

    def __init_subclass__(cls) -> None:
        columns: dict[str, Column[Any]] = {}
        for name, kind in get_type_hints(cls).items():
            if get_origin(kind) is ColumnClause:
                each: Column[Any] = vars(cls)[name]
                if not each.name:
                    each.name = each.key = name
                [value_type] = get_args(kind)
                each.nullable = NoneType in get_args(value_type)
                columns[name] = each
        for name, value in vars(cls).items():
            if isinstance(value, Column) and name not in columns:
                raise TypeError(f"The column {cls.__name__}.{name} needs an annotation: ColumnClause[type].")
        cls.__table__ = Table(cls.__tablename__, cls.metadata, *columns.values(), *cls.__table_args__)

    @classmethod
    def __clause_element__(cls) -> Table:
        """Return the table; SQLAlchemy calls this where a statement names the class."""
        return cls.__table__


def table_of(entity: type[Base]) -> Table:
    """Return the table that a class describes, for INSERT, UPDATE and DELETE statements."""
    return entity.__table__
