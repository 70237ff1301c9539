"""Migration to revision 0018: a table of counters for `/metrics`, and indexes for other metrics.

`/metrics` computes these other metrics from the stored builds, analyses, incidents and rollouts.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0018"
down_revision = "0017"
branch_labels = None
depends_on = None

_INDEXES = {
    "ix_builds_status_build_id": ("builds", ["status", "build_id"]),
    "ix_rca_runs_status_category": ("rca_runs", ["status", "category"]),
    "ix_incidents_target_outcome": ("incidents", ["target", "outcome", "status", "opened_at", "closed_at"]),
    "ix_incident_acts_target_status": ("incident_acts", ["target", "status"]),
    "ix_rollouts_status_verdict": ("rollouts", ["status", "verdict"]),
}


def upgrade() -> None:
    op.create_table(
        "counters",
        sa.Column("name", sa.String(length=64), nullable=False),
        sa.Column("labels", sa.Text(), nullable=False),
        sa.Column("value", sa.Float(), nullable=False),
        sa.PrimaryKeyConstraint("name", "labels", name="pk_counters"),
    )
    for name, (table, columns) in _INDEXES.items():
        op.create_index(name, table, columns)


def downgrade() -> None:
    for name, (table, _) in _INDEXES.items():
        op.drop_index(name, table)
    op.drop_table("counters")
