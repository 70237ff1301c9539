"""Migration to revision 0019: the folder of each build, and indexes for the retention of builds and decisions."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0019"
down_revision = "0018"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("builds", sa.Column("folder", sa.String(length=64), nullable=True))
    op.create_index("ix_builds_started_at", "builds", ["started_at"])
    op.create_index("ix_build_decisions_decided_at", "build_decisions", ["decided_at"])


def downgrade() -> None:
    op.drop_index("ix_build_decisions_decided_at", "build_decisions")
    op.drop_index("ix_builds_started_at", "builds")
    op.drop_column("builds", "folder")
