"""The database tables of builds."""

from __future__ import annotations

from typing import Any

from sqlalchemy import JSON, BigInteger, ColumnClause, Float, ForeignKey, Index, Integer, String, Text

from relab.storage.base import Base, IdText, Micros, OwnId, column


class BuildRow(Base):
    """One build. Its log is in another table, so that lists of builds do not read logs."""

    __tablename__ = "builds"
    __table_args__ = (
        Index("ix_builds_project_build_id", "project", "build_id"),
        Index("ix_builds_status_build_id", "status", "build_id"),
        Index("ix_builds_started_at", "started_at"),
        Index("ix_builds_source_key", "source_key", unique=True),
        # All columns that the list of groups reads.
        Index(
            "ix_builds_failure_group_started_at_build_id_project", "failure_group", "started_at", "build_id", "project"
        ),
        Index("ix_builds_project_failure_key_build_id", "project", "failure_key", "build_id"),
    )

    build_id: ColumnClause[str] = column(OwnId, primary_key=True)
    project: ColumnClause[str] = column(IdText)
    status: ColumnClause[str] = column(String(16))
    failure: ColumnClause[str | None] = column(String(32))
    started_at: ColumnClause[int] = column(Micros)
    folder: ColumnClause[str | None] = column(String(64))
    """A digest of the host and the folder in which the build runs; None if relab did not run the build."""
    source_key: ColumnClause[str | None] = column(String(80))
    """Identifies the log, file or report from which a recorded build was read, so that it is recorded once; None for
    builds that relab ran."""
    failure_group: ColumnClause[str | None] = column(String(24))
    """The key of the group of builds that failed for the same cause; None if the cause is unknown, or nothing failed."""
    failure_key: ColumnClause[str | None] = column(String(32))
    """Digest of the template of the log line that shows the failure; None if the build did not fail, or no line shows
    the failure."""
    document: ColumnClause[dict[str, Any]] = column(JSON)
    """The `Build` as JSON."""


class BuildLogRow(Base):
    """The log of one build; the middle of a long log is left out."""

    __tablename__ = "build_logs"

    build_id: ColumnClause[str] = column(OwnId, ForeignKey("builds.build_id", ondelete="CASCADE"), primary_key=True)
    text: ColumnClause[str] = column(Text)


class BuildTestRow(Base):
    """The result of one test in one build."""

    __tablename__ = "build_tests"
    __table_args__ = (
        # The rows of failed tests, which are few, are next to each other in this index.
        Index("ix_build_tests_outcome_project_test_key_build_id", "outcome", "project", "test_key", "build_id"),
        Index("ix_build_tests_build_id", "build_id"),
    )

    test_key: ColumnClause[int] = column(BigInteger, primary_key=True)
    """The first 64 bits of a digest of project and name."""
    build_id: ColumnClause[str] = column(OwnId, ForeignKey("builds.build_id", ondelete="CASCADE"), primary_key=True)
    project: ColumnClause[str] = column(IdText)
    outcome: ColumnClause[str] = column(String(8))
    name: ColumnClause[str] = column(String(500))
    duration_s: ColumnClause[float | None] = column(Float)
    message: ColumnClause[str | None] = column(String(300))
    line: ColumnClause[int | None] = column(BigInteger)


class BuildDecisionRow(Base):
    """A decision of the build optimizer: the action chosen for the next build, and the reward of that build."""

    __tablename__ = "build_decisions"
    __table_args__ = (
        Index("ix_build_decisions_project_decision_id", "project", "decision_id"),
        Index("ix_build_decisions_decided_at", "decided_at"),
    )

    decision_id: ColumnClause[str] = column(OwnId, primary_key=True)
    project: ColumnClause[str] = column(IdText)
    catalogue_version: ColumnClause[int] = column(Integer)
    policy: ColumnClause[str] = column(String(32))
    action_id: ColumnClause[int] = column(Integer)
    propensity: ColumnClause[float] = column(Float)
    reward: ColumnClause[float | None] = column(Float)
    decided_at: ColumnClause[int] = column(Micros)
    document: ColumnClause[dict[str, Any]] = column(JSON)
    """The `BuildDecision` as JSON."""


class BuildSuggestionRow(Base):
    """One suggestion for a failed build, with the verdicts of people about it."""

    __tablename__ = "build_suggestions"
    __table_args__ = (
        Index("ix_build_suggestions_project_suggestion_id", "project", "suggestion_id"),
        Index("ix_build_suggestions_state_suggestion_id", "state", "suggestion_id"),
        Index("ix_build_suggestions_failure_key_state", "failure_key", "state", "suggestion_id"),
        Index("ix_build_suggestions_suggested_at", "suggested_at"),
    )

    suggestion_id: ColumnClause[str] = column(OwnId, primary_key=True)
    project: ColumnClause[str] = column(IdText)
    state: ColumnClause[str] = column(String(16))
    failure_key: ColumnClause[str | None] = column(String(32))
    """As in `builds`."""
    suggested_at: ColumnClause[int] = column(Micros)
    document: ColumnClause[dict[str, Any]] = column(JSON)
    """The `StoredSuggestion` as JSON."""
