"""Migration to revision 0027: the behaviours that rules found in runs."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0027"
down_revision = "0026"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "run_behaviours",
        sa.Column("run_id", sa.String(length=200), nullable=False),
        sa.Column("behaviour", sa.String(length=64), nullable=False),
        sa.Column("content_hash", sa.String(length=80), nullable=False),
        sa.PrimaryKeyConstraint("run_id", "behaviour", name="pk_run_behaviours"),
    )
    op.create_index("ix_run_behaviours_behaviour_run_id", "run_behaviours", ["behaviour", "run_id"])


def downgrade() -> None:
    op.drop_table("run_behaviours")
