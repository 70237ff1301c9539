"""Migration to revision 0023: requests to stop a rollout, read by the process that executes it."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0023"
down_revision = "0022"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "rollout_stops",
        sa.Column("rollout_id", sa.String(length=36), nullable=False),
        sa.Column("at", sa.BigInteger(), nullable=False),
        sa.Column("actor", sa.Text(), nullable=False),
        sa.Column("note", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(
            ["rollout_id"], ["rollouts.rollout_id"], name="fk_rollout_stops_rollout_id_rollouts", ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("rollout_id", name="pk_rollout_stops"),
    )


def downgrade() -> None:
    op.drop_table("rollout_stops")
