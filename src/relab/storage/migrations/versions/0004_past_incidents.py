"""Migration to revision 0004: the table of past incidents."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "past_incidents",
        sa.Column("incident_id", sa.String(length=200), nullable=False),
        sa.Column("target", sa.String(length=200), nullable=False),
        sa.Column("cause", sa.String(length=100), nullable=False),
        sa.Column("resolved_at", sa.BigInteger(), nullable=False),
        sa.Column("content", sa.JSON(), nullable=False),
        sa.PrimaryKeyConstraint("incident_id", name="pk_past_incidents"),
    )
    op.create_index("ix_past_incidents_resolved_at", "past_incidents", ["resolved_at"])
    op.create_index("ix_past_incidents_cause_resolved_at", "past_incidents", ["cause", "resolved_at"])


def downgrade() -> None:
    op.drop_table("past_incidents")
