"""Migration to revision 0022: a table for suggestions of fixes, and a column for the failure key of a build.

Failed builds with the same kind of failure have the same failure key.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0022"
down_revision = "0021"
branch_labels = None
depends_on = None

_FAILURE_KEY_INDEX = "ix_builds_project_failure_key_build_id"
_INDEXES = {
    "ix_build_suggestions_project_suggestion_id": ["project", "suggestion_id"],
    "ix_build_suggestions_state_suggestion_id": ["state", "suggestion_id"],
    "ix_build_suggestions_failure_key_state": ["failure_key", "state", "suggestion_id"],
    "ix_build_suggestions_suggested_at": ["suggested_at"],
}


def upgrade() -> None:
    op.create_table(
        "build_suggestions",
        sa.Column("suggestion_id", sa.String(length=36), nullable=False),
        sa.Column("project", sa.String(length=200), nullable=False),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("failure_key", sa.String(length=32), nullable=True),
        sa.Column("suggested_at", sa.BigInteger(), nullable=False),
        sa.Column("document", sa.JSON(), nullable=False),
        sa.PrimaryKeyConstraint("suggestion_id", name="pk_build_suggestions"),
    )
    for name, columns in _INDEXES.items():
        op.create_index(name, "build_suggestions", columns)
    op.add_column("builds", sa.Column("failure_key", sa.String(length=32), nullable=True))
    op.create_index(_FAILURE_KEY_INDEX, "builds", ["project", "failure_key", "build_id"])


def downgrade() -> None:
    op.drop_index(_FAILURE_KEY_INDEX, "builds")
    op.drop_column("builds", "failure_key")
    op.drop_table("build_suggestions")
