"""Migration to revision 0020: a unique key for the source of a build.

The source is the log, file or report that describes the build. The key prevents that one source is recorded twice.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0020"
down_revision = "0019"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("builds", sa.Column("source_key", sa.String(length=80), nullable=True))
    op.create_index("ix_builds_source_key", "builds", ["source_key"], unique=True)


def downgrade() -> None:
    op.drop_index("ix_builds_source_key", "builds")
    op.drop_column("builds", "source_key")
