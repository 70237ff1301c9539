"""Migration to revision 0024: a table with the cluster of each failed run.

The failed runs of a cluster share a cause.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0024"
down_revision = "0023"
branch_labels = None
depends_on = None

_INDEXES = {
    "ix_rca_failures_cluster_started_at_run_id": ["cluster", "started_at", "run_id"],
    "ix_rca_failures_category_cluster": ["category", "cluster"],
    "ix_rca_failures_cluster_agent_name": ["cluster", "agent_name"],
    "ix_rca_failures_rca_run_id": ["rca_run_id"],
}


def upgrade() -> None:
    op.create_table(
        "rca_failures",
        sa.Column("run_id", sa.String(length=200), nullable=False),
        sa.Column("rca_run_id", sa.String(length=36), nullable=False),
        sa.Column("cluster", sa.String(length=24), nullable=False),
        sa.Column("category", sa.String(length=32), nullable=False),
        sa.Column("line", sa.Text(), nullable=False),
        sa.Column("agent_name", sa.String(length=500), nullable=False),
        sa.Column("agent_version", sa.String(length=1000), nullable=True),
        sa.Column("started_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("run_id", name="pk_rca_failures"),
    )
    for name, columns in _INDEXES.items():
        op.create_index(name, "rca_failures", columns)


def downgrade() -> None:
    op.drop_table("rca_failures")
