"""Migration to revision 0019: a column for the folder of each build, and indexes by time.

The indexes find the old builds and the old decisions of the build optimizer, which retention deletes.
"""

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
