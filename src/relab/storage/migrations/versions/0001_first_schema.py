"""Migration to revision 0001, the first schema: agent runs, analyses, jobs, progress, tokens."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "access_tokens",
        sa.Column("token_id", sa.String(length=36), nullable=False),
        sa.Column("name", sa.String(length=200), nullable=False),
        sa.Column("secret_hash", sa.String(length=64), nullable=False),
        sa.Column("scopes", sa.JSON(), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("expires_at", sa.BigInteger(), nullable=True),
        sa.Column("revoked_at", sa.BigInteger(), nullable=True),
        sa.PrimaryKeyConstraint("token_id", name="pk_access_tokens"),
    )
    op.create_table(
        "agent_runs",
        sa.Column("run_id", sa.String(length=200), nullable=False),
        sa.Column("source", sa.String(length=8), nullable=False),
        sa.Column("agent_name", sa.String(length=500), nullable=False),
        sa.Column("agent_version", sa.String(length=1000), nullable=True),
        sa.Column("model", sa.String(length=1000), nullable=True),
        sa.Column("environment", sa.String(length=1000), nullable=True),
        sa.Column("started_at", sa.BigInteger(), nullable=False),
        sa.Column("ended_at", sa.BigInteger(), nullable=True),
        sa.Column("status", sa.String(length=16), nullable=False),
        sa.Column("task_id", sa.String(length=1000), nullable=True),
        sa.Column("prompt_hash", sa.String(length=1000), nullable=True),
        sa.Column("version_key", sa.String(length=80), nullable=False),
        sa.Column("total_cost_usd", sa.Double(), nullable=True),
        sa.Column("category", sa.String(length=32), nullable=True),
        sa.Column("step_count", sa.Integer(), nullable=False),
        sa.Column("tool_call_count", sa.Integer(), nullable=False),
        sa.Column("guardrail_event_count", sa.Integer(), nullable=False),
        sa.Column("tool_stats", sa.JSON(), nullable=False),
        sa.Column("search_text", sa.Text(), nullable=False),
        sa.Column("content_hash", sa.String(length=80), nullable=False),
        sa.Column("data", sa.JSON(), nullable=False),
        sa.Column("received_at", sa.BigInteger(), nullable=False),
        sa.Column("updated_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("run_id", name="pk_agent_runs"),
    )
    op.create_index("ix_agent_runs_agent_name_started_at", "agent_runs", ["agent_name", "started_at"])
    op.create_index("ix_agent_runs_version_key_started_at", "agent_runs", ["version_key", "started_at"])
    op.create_index("ix_agent_runs_started_at_run_id", "agent_runs", ["started_at", "run_id"])

    op.create_table(
        "jobs",
        sa.Column("job_id", sa.String(length=36), nullable=False),
        sa.Column("name", sa.String(length=100), nullable=False),
        sa.Column("args", sa.JSON(), nullable=False),
        sa.Column("status", sa.String(length=16), nullable=False),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("max_attempts", sa.Integer(), nullable=False),
        sa.Column("run_after", sa.BigInteger(), nullable=False),
        sa.Column("announced_at", sa.BigInteger(), nullable=True),
        sa.Column("lease_owner", sa.String(length=200), nullable=True),
        sa.Column("lease_until", sa.BigInteger(), nullable=True),
        sa.Column("error", sa.Text(), nullable=True),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("finished_at", sa.BigInteger(), nullable=True),
        sa.PrimaryKeyConstraint("job_id", name="pk_jobs"),
    )
    op.create_index("ix_jobs_status_run_after_job_id", "jobs", ["status", "run_after", "job_id"])

    op.create_table(
        "leases",
        sa.Column("name", sa.String(length=100), nullable=False),
        sa.Column("owner", sa.String(length=200), nullable=False),
        sa.Column("until", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("name", name="pk_leases"),
    )
    op.create_table(
        "progress_events",
        sa.Column("topic", sa.String(length=36), nullable=False),
        sa.Column("seq", sa.Integer(), nullable=False),
        sa.Column("status", sa.String(length=16), nullable=False),
        sa.Column("step", sa.String(length=200), nullable=False),
        sa.Column("pct", sa.Integer(), nullable=False),
        sa.Column("message", sa.Text(), nullable=False),
        sa.Column("updated_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("topic", "seq", name="pk_progress_events"),
    )
    op.create_table(
        "rca_runs",
        sa.Column("rca_run_id", sa.String(length=36), nullable=False),
        sa.Column("run_id", sa.String(length=200), nullable=False),
        sa.Column("content_hash", sa.String(length=80), nullable=False),
        sa.Column("current_key", sa.String(length=300), nullable=True),
        sa.Column("status", sa.String(length=16), nullable=False),
        sa.Column("error", sa.Text(), nullable=True),
        sa.Column("report", sa.JSON(none_as_null=True), nullable=True),
        sa.Column("category", sa.String(length=32), nullable=True),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("started_at", sa.BigInteger(), nullable=True),
        sa.Column("finished_at", sa.BigInteger(), nullable=True),
        sa.PrimaryKeyConstraint("rca_run_id", name="pk_rca_runs"),
        sa.UniqueConstraint("current_key", name="uq_rca_runs_current_key"),
    )
    op.create_index("ix_rca_runs_run_id_rca_run_id", "rca_runs", ["run_id", "rca_run_id"])

    op.create_table(
        "timeline_items",
        sa.Column("run_id", sa.String(length=200), nullable=False),
        sa.Column("kind", sa.SmallInteger(), nullable=False),
        sa.Column("ref_id", sa.String(length=200), nullable=False),
        sa.Column("at", sa.BigInteger(), nullable=False),
        sa.Column("position", sa.Integer(), nullable=False),
        sa.Column("latency_ms", sa.Double(), nullable=True),
        sa.Column("data", sa.JSON(), nullable=False),
        sa.ForeignKeyConstraint(
            ["run_id"], ["agent_runs.run_id"], name="fk_timeline_items_run_id_agent_runs", ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("run_id", "kind", "ref_id", name="pk_timeline_items"),
    )
    op.create_index("ix_timeline_items_order", "timeline_items", ["run_id", "at", "kind", "position"])


def downgrade() -> None:
    op.drop_index("ix_timeline_items_order", table_name="timeline_items")

    op.drop_table("timeline_items")
    op.drop_index("ix_rca_runs_run_id_rca_run_id", table_name="rca_runs")

    op.drop_table("rca_runs")
    op.drop_table("progress_events")
    op.drop_table("leases")
    op.drop_index("ix_jobs_status_run_after_job_id", table_name="jobs")

    op.drop_table("jobs")
    op.drop_index("ix_agent_runs_version_key_started_at", table_name="agent_runs")
    op.drop_index("ix_agent_runs_started_at_run_id", table_name="agent_runs")
    op.drop_index("ix_agent_runs_agent_name_started_at", table_name="agent_runs")

    op.drop_table("agent_runs")
    op.drop_table("access_tokens")
