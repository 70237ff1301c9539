"""The database table of analyses."""

from __future__ import annotations

from typing import Any

from sqlalchemy import JSON, Boolean, Index, String, Text, false
from sqlalchemy.orm import Mapped, mapped_column

from relab.storage.base import Base, IdText, Micros, OwnId


class RcaRunRow(Base):
    """One root cause analysis of an agent run, for the content of the run that has the digest `content_hash`.

    `report` is a `Report` as JSON and `category` the category in it, null until the analysis is done; `error` says why it
    failed.
    """

    __tablename__ = "rca_runs"
    __table_args__ = (
        Index("ix_rca_runs_run_id_rca_run_id", "run_id", "rca_run_id"),
        Index("ix_rca_runs_status_category", "status", "category"),
    )

    rca_run_id: Mapped[str] = mapped_column(OwnId, primary_key=True)
    run_id: Mapped[str] = mapped_column(IdText)
    content_hash: Mapped[str] = mapped_column(String(80))
    current_key: Mapped[str | None] = mapped_column(String(300), unique=True)
    """Set while this is the current analysis of the content, so that a second request finds it; the
    unique index rejects the second of two concurrent inserts."""
    status: Mapped[str] = mapped_column(String(16))
    error: Mapped[str | None] = mapped_column(Text)
    report: Mapped[dict[str, Any] | None] = mapped_column(JSON(none_as_null=True))
    category: Mapped[str | None] = mapped_column(String(32))
    on_arrival: Mapped[bool] = mapped_column(Boolean, server_default=false())
    """Whether the arrival of the run requested it, and no person."""
    created_at: Mapped[int] = mapped_column(Micros)
    started_at: Mapped[int | None] = mapped_column(Micros)
    finished_at: Mapped[int | None] = mapped_column(Micros)
