"""Classes that describe a table: which columns the table gets, and which mistakes are rejected."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from sqlalchemy import ColumnClause, Integer, Text, select
from sqlalchemy.exc import ArgumentError

from relab.storage.base import Base, column, table_of


@pytest.fixture(autouse=True)
def only_known_tables() -> Iterator[None]:
    """Remove the tables of a test from the metadata that all tests share."""
    known = set(Base.metadata.tables)
    yield
    for name in set(Base.metadata.tables) - known:
        Base.metadata.remove(Base.metadata.tables[name])


def test_annotation_says_whether_a_column_may_be_null() -> None:
    class Row(Base):
        __tablename__ = "of_this_test"

        number: ColumnClause[int] = column(Integer, primary_key=True)
        note: ColumnClause[str | None] = column(Text)
        text: ColumnClause[str] = column("old_text", Text, key="text")

    columns = table_of(Row).c
    assert columns.keys() == ["number", "note", "text"]
    assert columns.note.nullable
    assert not columns.text.nullable
    assert str(select(Row.text)) == "SELECT of_this_test.old_text \nFROM of_this_test"


def test_column_without_an_annotation_is_rejected() -> None:
    with pytest.raises(TypeError, match=r"Row\.note needs an annotation"):

        class Row(Base):
            __tablename__ = "of_this_test"

            number: ColumnClause[int] = column(Integer, primary_key=True)
            note = column(Text)


def test_column_of_another_class_is_rejected() -> None:
    class First(Base):
        __tablename__ = "of_this_test"

        shared: ColumnClause[str] = column("shared", Text)

    with pytest.raises(ArgumentError, match="already assigned to Table"):

        class Second(Base):
            __tablename__ = "of_this_test_too"

            copied: ColumnClause[str] = First.shared
