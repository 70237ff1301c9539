"""Migration to revision 0028: a table for ranking models.

A ranking model ranks the steps of a failed run. The stored ones are trained on labels of this installation.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0028"
down_revision = "0027"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "rca_ranking_models",
        sa.Column("source", sa.String(length=200), nullable=False),
        sa.Column("trained_at", sa.BigInteger(), nullable=False),
        sa.Column("artefact", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("source", name="pk_rca_ranking_models"),
    )


def downgrade() -> None:
    op.drop_table("rca_ranking_models")
