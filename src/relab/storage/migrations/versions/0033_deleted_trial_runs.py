"""Migration to revision 0033: the agent runs of trials that a person deleted; a continued experiment sends none again."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0033"
down_revision = "0032"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "deleted_trial_runs",
        sa.Column("run_id", sa.String(length=200), nullable=False),
        sa.Column("started_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("run_id", name="pk_deleted_trial_runs"),
    )


def downgrade() -> None:
    op.drop_table("deleted_trial_runs")
