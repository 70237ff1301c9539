"""Migration to revision 0021: a table for the test results of builds, and a column for the group of a failed build.

The failed builds of a group share a cause.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0021"
down_revision = "0020"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "build_tests",
        sa.Column("test_key", sa.BigInteger(), nullable=False),
        sa.Column("build_id", sa.String(length=36), nullable=False),
        sa.Column("project", sa.String(length=200), nullable=False),
        sa.Column("outcome", sa.String(length=8), nullable=False),
        sa.Column("name", sa.String(length=500), nullable=False),
        sa.Column("duration_s", sa.Float(), nullable=True),
        sa.Column("message", sa.String(length=300), nullable=True),
        sa.Column("line", sa.BigInteger(), nullable=True),
        sa.ForeignKeyConstraint(
            ["build_id"], ["builds.build_id"], name="fk_build_tests_build_id_builds", ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("test_key", "build_id", name="pk_build_tests"),
    )
    op.create_index(
        "ix_build_tests_outcome_project_test_key_build_id",
        "build_tests",
        ["outcome", "project", "test_key", "build_id"],
    )
    op.create_index("ix_build_tests_build_id", "build_tests", ["build_id"])
    op.add_column("builds", sa.Column("failure_group", sa.String(length=24), nullable=True))
    op.create_index(
        "ix_builds_failure_group_started_at_build_id_project",
        "builds",
        ["failure_group", "started_at", "build_id", "project"],
    )


def downgrade() -> None:
    op.drop_index("ix_builds_failure_group_started_at_build_id_project", "builds")
    op.drop_column("builds", "failure_group")
    op.drop_table("build_tests")
