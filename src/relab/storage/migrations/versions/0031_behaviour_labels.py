"""Migration to revision 0031: labels by which people say whether a run shows a behaviour."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0031"
down_revision = "0030"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "rca_behaviour_labels",
        sa.Column("run_id", sa.String(length=200), nullable=False),
        sa.Column("behaviour", sa.String(length=64), nullable=False),
        sa.Column("content_hash", sa.String(length=80), nullable=False),
        sa.Column("is_shown", sa.Boolean(), nullable=False),
        sa.Column("labelled_by", sa.String(length=1000), nullable=False),
        sa.Column("labelled_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("run_id", "behaviour", name="pk_rca_behaviour_labels"),
    )
    op.create_index("ix_rca_behaviour_labels_behaviour_run_id", "rca_behaviour_labels", ["behaviour", "run_id"])


def downgrade() -> None:
    op.drop_index("ix_rca_behaviour_labels_behaviour_run_id", table_name="rca_behaviour_labels")
    op.drop_table("rca_behaviour_labels")
