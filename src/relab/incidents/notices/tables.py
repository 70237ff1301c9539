"""Database tables of receivers of notices, their positions in timelines, posted notices, and accepted Slack requests.

A position is the number of the last event that was sent to a receiver or skipped. Events are not copied.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import JSON, Boolean, ColumnClause, ForeignKey, Index, Integer, String, Text, UniqueConstraint

from relab.incidents.storage.tables import IncidentRow
from relab.storage.base import Base, Micros, OwnId, column


class NoticeReceiverRow(Base):
    """A receiver of notices and its delivery state; times are in microseconds since 1970.

    Attributes:
        receiver: the name of the receiver.
        since: when the receiver was set up.
        sent, given_up: how many notices the receiver accepted, and how many were skipped after errors.
        last_sent_at: when the receiver last accepted a notice; None if it never did.
        attempts: how often sending the present notice has failed.
        retry_at: when the next attempt is due; None without a pause.
        error: the last error; None after a success.
    """

    __tablename__ = "notice_receivers"

    receiver: ColumnClause[str] = column(String(40), primary_key=True)
    since: ColumnClause[int] = column(Micros)
    sent: ColumnClause[int] = column(Integer)
    given_up: ColumnClause[int] = column(Integer)
    last_sent_at: ColumnClause[int | None] = column(Micros)
    attempts: ColumnClause[int] = column(Integer)
    retry_at: ColumnClause[int | None] = column(Micros)
    error: ColumnClause[str | None] = column(Text)


class NoticePlaceRow(Base):
    """A receiver's position in the timeline of an incident.

    Attributes:
        receiver: the name of the receiver.
        seq: the number of the last event that was sent to the receiver or skipped.
        is_over: whether that event ends the incident, so that no further notices follow.
    """

    __tablename__ = "notice_places"
    __table_args__ = (Index("ix_notice_places_receiver_is_over", "receiver", "is_over"),)

    receiver: ColumnClause[str] = column(String(40), primary_key=True)
    incident_id: ColumnClause[str] = column(ForeignKey(IncidentRow.incident_id, ondelete="CASCADE"), primary_key=True)
    seq: ColumnClause[int] = column(Integer)
    is_over: ColumnClause[bool] = column(Boolean)


class NoticePostRow(Base):
    """A message that another part of relab posted as a notice.

    `content` is a `NewNotice` as JSON; `at` is the message's time, in microseconds since 1970.
    """

    __tablename__ = "notice_posts"
    __table_args__ = (
        UniqueConstraint("topic", "seq", name="uq_notice_posts_topic_seq"),
        Index("ix_notice_posts_at", "at"),
    )

    notice_id: ColumnClause[str] = column(OwnId, primary_key=True)
    topic: ColumnClause[str] = column(String(150))
    seq: ColumnClause[int] = column(Micros)
    at: ColumnClause[int] = column(Micros)
    content: ColumnClause[dict[str, Any]] = column(JSON)


class NoticeDeliveryRow(Base):
    """A posted notice (a message of another part of relab) that a receiver has processed.

    The receiver accepted the notice, does not get such notices, or the notice was given up.
    """

    __tablename__ = "notice_deliveries"

    receiver: ColumnClause[str] = column(String(40), primary_key=True)
    notice_id: ColumnClause[str] = column(ForeignKey(NoticePostRow.notice_id, ondelete="CASCADE"), primary_key=True)


class SlackRequestRow(Base):
    """The signature of an accepted Slack request, stored so that a replay of the request is detected.

    `at` is the time at which it was stored, in microseconds since 1970.
    """

    __tablename__ = "slack_requests"
    __table_args__ = (Index("ix_slack_requests_at", "at"),)

    signature: ColumnClause[str] = column(String(64), primary_key=True)
    at: ColumnClause[int] = column(Micros)
