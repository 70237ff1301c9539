"""The database tables of analyses."""

from __future__ import annotations

from typing import Any

from sqlalchemy import JSON, Boolean, Index, Integer, String, Text, false
from sqlalchemy.orm import Mapped, mapped_column

from relab.rca.judge_method import JudgeMethod
from relab.storage.base import Base, IdText, Micros, OwnId, ShortText


class RcaRunRow(Base):
    """One root cause analysis of an agent run. `content_hash` is the digest of the run's content that was analysed.

    `report` is a `Report` as JSON, and `category` is the category in this report; both are null until the analysis is
    done. `error` states why the analysis failed.
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
    """Not null while this is the current analysis of the content, so that a second request finds it. The unique index rejects the second of
    two concurrent inserts."""
    status: Mapped[str] = mapped_column(String(16))
    error: Mapped[str | None] = mapped_column(Text)
    report: Mapped[dict[str, Any] | None] = mapped_column(JSON(none_as_null=True))
    category: Mapped[str | None] = mapped_column(String(32))
    on_arrival: Mapped[bool] = mapped_column(Boolean, server_default=false())
    """Whether the analysis was requested because the run arrived, and not by a person."""
    judge: Mapped[str] = mapped_column(String(16), server_default=JudgeMethod.OFF)
    """The method by which a language model is asked which step went wrong first (`JudgeMethod`)."""
    created_at: Mapped[int] = mapped_column(Micros)
    started_at: Mapped[int | None] = mapped_column(Micros)
    finished_at: Mapped[int | None] = mapped_column(Micros)


class RcaFailureRow(Base):
    """The failure of a run, as its newest analysis explains it; failures with the same cause have the same `cluster`.

    `line` is a line of the run that shows the cause. The agent, the version and the start of the run are copied to this
    table.
    """

    __tablename__ = "rca_failures"
    __table_args__ = (
        # In this order, the clusters of all failures, of a category and of an agent are ranges or scans of one index.
        Index("ix_rca_failures_cluster_started_at_run_id", "cluster", "started_at", "run_id"),
        Index("ix_rca_failures_category_cluster", "category", "cluster"),
        Index("ix_rca_failures_cluster_agent_name", "cluster", "agent_name"),
        Index("ix_rca_failures_rca_run_id", "rca_run_id"),
    )

    run_id: Mapped[str] = mapped_column(IdText, primary_key=True)
    rca_run_id: Mapped[str] = mapped_column(OwnId)
    cluster: Mapped[str] = mapped_column(String(24))
    category: Mapped[str] = mapped_column(String(32))
    line: Mapped[str] = mapped_column(Text)
    agent_name: Mapped[str] = mapped_column(String(500))
    agent_version: Mapped[str | None] = mapped_column(ShortText)
    started_at: Mapped[int] = mapped_column(Micros)


class RcaLabelRow(Base):
    """A person's statement about the first mistake of a run; a run has at most one such label."""

    __tablename__ = "rca_labels"
    __table_args__ = (Index("ix_rca_labels_labelled_at_run_id", "labelled_at", "run_id"),)

    run_id: Mapped[str] = mapped_column(IdText, primary_key=True)
    content_hash: Mapped[str] = mapped_column(String(80))
    step_id: Mapped[str | None] = mapped_column(IdText)
    agent_name: Mapped[str | None] = mapped_column(ShortText)
    category: Mapped[str | None] = mapped_column(String(64))
    note: Mapped[str | None] = mapped_column(Text)
    labelled_by: Mapped[str] = mapped_column(ShortText)
    labelled_at: Mapped[int] = mapped_column(Micros)


class RcaBehaviourLabelRow(Base):
    """A person's label, which states whether a run shows a behaviour (a pattern that a rule describes)."""

    __tablename__ = "rca_behaviour_labels"
    __table_args__ = (Index("ix_rca_behaviour_labels_behaviour_run_id", "behaviour", "run_id"),)

    run_id: Mapped[str] = mapped_column(IdText, primary_key=True)
    behaviour: Mapped[str] = mapped_column(String(64), primary_key=True)
    content_hash: Mapped[str] = mapped_column(String(80))
    is_shown: Mapped[bool] = mapped_column(Boolean)
    labelled_by: Mapped[str] = mapped_column(ShortText)
    labelled_at: Mapped[int] = mapped_column(Micros)


class RcaRankingModelRow(Base):
    """The ranking model of one agent: it ranks the steps of the agent's runs by how likely each is the first mistake.

    The model was trained on runs of this agent in which people labelled the first mistake. `source` is the text
    `agent NAME`; `artefact` is the model as JSON.
    """

    __tablename__ = "rca_ranking_models"

    source: Mapped[str] = mapped_column(IdText, primary_key=True)
    trained_at: Mapped[int] = mapped_column(Micros)
    artefact: Mapped[str] = mapped_column(Text)


class RcaJudgeAnswerRow(Base):
    """A stored answer of the judge (a language model) to a request about a run.

    `request` is the SHA-256 digest of model, instructions and prompt. A request with the same digest is answered from
    this table.
    """

    __tablename__ = "rca_judge_answers"

    run_id: Mapped[str] = mapped_column(IdText, primary_key=True)
    request: Mapped[str] = mapped_column(String(64), primary_key=True)
    answer: Mapped[str] = mapped_column(Text)
    answered_at: Mapped[int] = mapped_column(Micros)


class RcaBehaviourNoticeRow(Base):
    """The time of the last notification about a behaviour (pattern), and how many runs have shown it since then."""

    __tablename__ = "rca_behaviour_notices"

    behaviour: Mapped[str] = mapped_column(String(64), primary_key=True)
    noticed_at: Mapped[int] = mapped_column(Micros)
    counted: Mapped[int] = mapped_column(Integer)
