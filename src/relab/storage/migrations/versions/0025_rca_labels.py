"""Migration to revision 0025: labels, which people give to runs."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0025"
down_revision = "0024"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "rca_labels",
        sa.Column("run_id", sa.String(length=200), nullable=False),
        sa.Column("content_hash", sa.String(length=80), nullable=False),
        sa.Column("step_id", sa.String(length=200), nullable=True),
        sa.Column("agent_name", sa.String(length=1000), nullable=True),
        sa.Column("category", sa.String(length=64), nullable=True),
        sa.Column("note", sa.Text(), nullable=True),
        sa.Column("labelled_by", sa.String(length=1000), nullable=False),
        sa.Column("labelled_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("run_id", name="pk_rca_labels"),
    )
    op.create_index("ix_rca_labels_labelled_at_run_id", "rca_labels", ["labelled_at", "run_id"])


def downgrade() -> None:
    op.drop_table("rca_labels")
