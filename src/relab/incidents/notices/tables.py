"""How it is kept who was told what: a place in each timeline for each receiver, so that no notice needs a copy."""

from __future__ import annotations

from sqlalchemy import Boolean, ForeignKey, Index, Integer, String, Text
from sqlalchemy.orm import Mapped, mapped_column

from relab.incidents.storage.tables import IncidentRow
from relab.storage.base import Base, Micros


class NoticeReceiverRow(Base):
    """A receiver of notices, and how it stands with it."""

    __tablename__ = "notice_receivers"

    receiver: Mapped[str] = mapped_column(String(40), primary_key=True)
    since: Mapped[int] = mapped_column(Micros)
    sent: Mapped[int] = mapped_column(Integer)
    given_up: Mapped[int] = mapped_column(Integer)
    last_sent_at: Mapped[int | None] = mapped_column(Micros)
    attempts: Mapped[int] = mapped_column(Integer)
    retry_at: Mapped[int | None] = mapped_column(Micros)
    error: Mapped[str | None] = mapped_column(Text)


class NoticePlaceRow(Base):
    """Up to which event of an incident a receiver is told."""

    __tablename__ = "notice_places"
    __table_args__ = (Index("ix_notice_places_receiver_is_over", "receiver", "is_over"),)

    receiver: Mapped[str] = mapped_column(String(40), primary_key=True)
    incident_id: Mapped[str] = mapped_column(ForeignKey(IncidentRow.incident_id, ondelete="CASCADE"), primary_key=True)
    seq: Mapped[int] = mapped_column(Integer)
    is_over: Mapped[bool] = mapped_column(Boolean)
    """The incident's end is dealt with; of what is written down later people are not told."""


class SlackRequestRow(Base):
    """A request of Slack's that was taken, for as long as the same one could come again."""

    __tablename__ = "slack_requests"
    __table_args__ = (Index("ix_slack_requests_at", "at"),)

    signature: Mapped[str] = mapped_column(String(64), primary_key=True)
    at: Mapped[int] = mapped_column(Micros)
