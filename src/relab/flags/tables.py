"""The tables of flags: one row per flag, which writers lock, and one row per version, which never changes."""

from __future__ import annotations

from typing import Any

from sqlalchemy import JSON, ColumnClause, Integer, String

from relab.storage.base import Base, IdText, Micros, ShortText, column


class FlagRow(Base):
    """The row of one flag, with the number of its current version."""

    __tablename__ = "flags"

    key: ColumnClause[str] = column(IdText, primary_key=True)
    version: ColumnClause[int] = column(Integer)
    created_at: ColumnClause[int] = column(Micros)


class FlagVersionRow(Base):
    """The row of one version of a flag. The row is never changed.

    `action` is the kind of change that added the version. `author` is the name of the caller that made the change, and
    `note` is the reason. `digest` is the SHA-256 of the content. `created_at` is in microseconds since 1970.
    """

    __tablename__ = "flag_versions"

    key: ColumnClause[str] = column(IdText, primary_key=True)
    version: ColumnClause[int] = column(Integer, primary_key=True, autoincrement=False)
    action: ColumnClause[str] = column(String(16))
    created_at: ColumnClause[int] = column(Micros)
    author: ColumnClause[str] = column(String(200))
    note: ColumnClause[str] = column(ShortText)
    digest: ColumnClause[str] = column(String(80))
    restored_version: ColumnClause[int | None] = column(Integer)
    content: ColumnClause[dict[str, Any]] = column(JSON)
