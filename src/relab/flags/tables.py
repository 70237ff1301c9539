"""ORM tables of flags: one row per flag, which writers lock, and one row per version, which never changes."""

from __future__ import annotations

from typing import Any

from sqlalchemy import JSON, Integer, String
from sqlalchemy.orm import Mapped, mapped_column

from relab.storage.base import Base, IdText, Micros, ShortText


class FlagRow(Base):
    """The row of one flag, with the number of its current version."""

    __tablename__ = "flags"

    key: Mapped[str] = mapped_column(IdText, primary_key=True)
    version: Mapped[int] = mapped_column(Integer)
    created_at: Mapped[int] = mapped_column(Micros)


class FlagVersionRow(Base):
    """The row of one version of a flag, which is never changed.

    `action` is the kind of change that added the version. `author` is the person who made the change, and `note` is the
    reason. `digest` is the SHA-256 of the content. `created_at` is in microseconds since 1970.
    """

    __tablename__ = "flag_versions"

    key: Mapped[str] = mapped_column(IdText, primary_key=True)
    version: Mapped[int] = mapped_column(Integer, primary_key=True, autoincrement=False)
    action: Mapped[str] = mapped_column(String(16))
    created_at: Mapped[int] = mapped_column(Micros)
    author: Mapped[str] = mapped_column(String(200))
    note: Mapped[str] = mapped_column(ShortText)
    digest: Mapped[str] = mapped_column(String(80))
    restored_version: Mapped[int | None] = mapped_column(Integer)
    content: Mapped[dict[str, Any]] = mapped_column(JSON)
