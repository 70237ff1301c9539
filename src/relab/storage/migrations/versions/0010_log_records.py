"""Migration to revision 0010: tables for log records, which relab receives over OTLP."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "log_records",
        sa.Column("trace_id", sa.String(length=32), nullable=False),
        sa.Column("time_ns", sa.BigInteger(), nullable=False),
        sa.Column("record_id", sa.String(length=16), nullable=False),
        sa.Column("span_id", sa.String(length=16), nullable=False),
        sa.Column("severity", sa.SmallInteger(), nullable=False),
        sa.Column("event_name", sa.String(length=1000), nullable=False),
        sa.Column("is_span_event", sa.Boolean(), nullable=False),
        sa.Column("origin", sa.BigInteger(), nullable=False),
        sa.Column("data", sa.LargeBinary(), nullable=False),
        sa.Column("received_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("trace_id", "time_ns", "record_id", name="pk_log_records"),
    )
    # Not in `span_origins`: records may come before their spans, and a process of the version before, which runs while it
    # is replaced, inserts the origins of a new trace without a look at what is there.
    op.create_table(
        "log_origins",
        sa.Column("trace_id", sa.String(length=32), nullable=False),
        sa.Column("origin", sa.BigInteger(), nullable=False),
        sa.Column("data", sa.JSON(), nullable=False),
        sa.PrimaryKeyConstraint("trace_id", "origin", name="pk_log_origins"),
    )


def downgrade() -> None:
    op.drop_table("log_origins")
    op.drop_table("log_records")
