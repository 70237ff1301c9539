"""Migration to revision 0029: a column for the judge of an analysis, and a table for its answers.

The judge is a language model that is asked for the first wrong step of a run. The column says how
it is asked; `off` if it is not asked.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0029"
down_revision = "0028"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("rca_runs", sa.Column("judge", sa.String(length=16), server_default="off", nullable=False))
    op.create_table(
        "rca_judge_answers",
        sa.Column("run_id", sa.String(length=200), nullable=False),
        sa.Column("request", sa.String(length=64), nullable=False),
        sa.Column("answer", sa.Text(), nullable=False),
        sa.Column("answered_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("run_id", "request", name="pk_rca_judge_answers"),
    )


def downgrade() -> None:
    op.drop_table("rca_judge_answers")
    op.drop_column("rca_runs", "judge")
