"""The table of progress events."""

from __future__ import annotations

from sqlalchemy import Integer, String, Text
from sqlalchemy.orm import Mapped, mapped_column

from relab.storage.base import Base, Micros, OwnId


class ProgressEventRow(Base):
    """One progress event; its topic is the id of the analysis, training or rollout whose progress it reports."""

    __tablename__ = "progress_events"

    topic: Mapped[str] = mapped_column(OwnId, primary_key=True)
    seq: Mapped[int] = mapped_column(Integer, primary_key=True)
    status: Mapped[str] = mapped_column(String(16))
    step: Mapped[str] = mapped_column(String(200))
    pct: Mapped[int] = mapped_column(Integer)
    message: Mapped[str] = mapped_column(Text)
    updated_at: Mapped[int] = mapped_column(Micros)
