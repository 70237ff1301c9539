"""The database tables of analyses."""

from __future__ import annotations

from typing import Any

from sqlalchemy import JSON, Boolean, ColumnClause, Index, Integer, String, Text, false

from relab.rca.judge_method import JudgeMethod
from relab.storage.base import Base, IdText, Micros, OwnId, ShortText, column


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

    rca_run_id: ColumnClause[str] = column(OwnId, primary_key=True)
    run_id: ColumnClause[str] = column(IdText)
    content_hash: ColumnClause[str] = column(String(80))
    current_key: ColumnClause[str | None] = column(String(300), unique=True)
    """Not null while this is the current analysis of the content, so that a second request finds it. The unique index rejects the second of
    two concurrent inserts."""
    status: ColumnClause[str] = column(String(16))
    error: ColumnClause[str | None] = column(Text)
    report: ColumnClause[dict[str, Any] | None] = column(JSON(none_as_null=True))
    category: ColumnClause[str | None] = column(String(32))
    on_arrival: ColumnClause[bool] = column(Boolean, server_default=false())
    """Whether the analysis was requested because the run arrived, and not by a person."""
    judge: ColumnClause[str] = column(String(16), server_default=JudgeMethod.OFF)
    """The method by which a language model is asked which step went wrong first (`JudgeMethod`)."""
    created_at: ColumnClause[int] = column(Micros)
    started_at: ColumnClause[int | None] = column(Micros)
    finished_at: ColumnClause[int | None] = column(Micros)


class RcaFailureRow(Base):
    """The failure of a run, as its newest analysis explains it; failures with the same cause have the same `cluster`.

    `line` is one line of text that shows the cause. The agent, its version and the start of the run are copied from the
    run; the version is null for a trial of an experiment.
    """

    __tablename__ = "rca_failures"
    __table_args__ = (
        # In this order, the clusters of all failures, of a category and of an agent are ranges or scans of one index.
        Index("ix_rca_failures_cluster_started_at_run_id", "cluster", "started_at", "run_id"),
        Index("ix_rca_failures_category_cluster", "category", "cluster"),
        Index("ix_rca_failures_cluster_agent_name", "cluster", "agent_name"),
        Index("ix_rca_failures_rca_run_id", "rca_run_id"),
    )

    run_id: ColumnClause[str] = column(IdText, primary_key=True)
    rca_run_id: ColumnClause[str] = column(OwnId)
    cluster: ColumnClause[str] = column(String(24))
    category: ColumnClause[str] = column(String(32))
    line: ColumnClause[str] = column(Text)
    agent_name: ColumnClause[str] = column(String(500))
    agent_version: ColumnClause[str | None] = column(ShortText)
    started_at: ColumnClause[int] = column(Micros)


class RcaLabelRow(Base):
    """A person's statement about the first mistake of a run; a run has at most one such label."""

    __tablename__ = "rca_labels"
    __table_args__ = (Index("ix_rca_labels_labelled_at_run_id", "labelled_at", "run_id"),)

    run_id: ColumnClause[str] = column(IdText, primary_key=True)
    content_hash: ColumnClause[str] = column(String(80))
    step_id: ColumnClause[str | None] = column(IdText)
    agent_name: ColumnClause[str | None] = column(ShortText)
    category: ColumnClause[str | None] = column(String(64))
    note: ColumnClause[str | None] = column(Text)
    labelled_by: ColumnClause[str] = column(ShortText)
    labelled_at: ColumnClause[int] = column(Micros)


class RcaBehaviourLabelRow(Base):
    """A person's label, which states whether a run shows a behaviour (a pattern that a rule describes)."""

    __tablename__ = "rca_behaviour_labels"
    __table_args__ = (Index("ix_rca_behaviour_labels_behaviour_run_id", "behaviour", "run_id"),)

    run_id: ColumnClause[str] = column(IdText, primary_key=True)
    behaviour: ColumnClause[str] = column(String(64), primary_key=True)
    content_hash: ColumnClause[str] = column(String(80))
    is_shown: ColumnClause[bool] = column(Boolean)
    labelled_by: ColumnClause[str] = column(ShortText)
    labelled_at: ColumnClause[int] = column(Micros)


class RcaRankingModelRow(Base):
    """The ranking model of one agent: it ranks the steps of the agent's runs by how likely each is the first mistake.

    The model was trained on runs of this agent in which people labelled the first mistake. `source` is the text
    `agent NAME`; `artefact` is the model as JSON.
    """

    __tablename__ = "rca_ranking_models"

    source: ColumnClause[str] = column(IdText, primary_key=True)
    trained_at: ColumnClause[int] = column(Micros)
    artefact: ColumnClause[str] = column(Text)


class RcaJudgeAnswerRow(Base):
    """A stored answer of the judge (a language model) to a request about a run.

    `request` is the SHA-256 digest of model, instructions and prompt. A request with the same digest is answered from
    this table.
    """

    __tablename__ = "rca_judge_answers"

    run_id: ColumnClause[str] = column(IdText, primary_key=True)
    request: ColumnClause[str] = column(String(64), primary_key=True)
    answer: ColumnClause[str] = column(Text)
    answered_at: ColumnClause[int] = column(Micros)


class RcaBehaviourNoticeRow(Base):
    """The time of the last notification about a behaviour (pattern), and how many runs have shown it since then."""

    __tablename__ = "rca_behaviour_notices"

    behaviour: ColumnClause[str] = column(String(64), primary_key=True)
    noticed_at: ColumnClause[int] = column(Micros)
    counted: ColumnClause[int] = column(Integer)
