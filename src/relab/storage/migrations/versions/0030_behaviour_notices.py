"""Migration to revision 0030: tables for notices about behaviours.

A further table lists the runs in which relab must still search for behaviours.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0030"
down_revision = "0029"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "notice_posts",
        sa.Column("notice_id", sa.String(length=36), nullable=False),
        sa.Column("topic", sa.String(length=150), nullable=False),
        sa.Column("seq", sa.BigInteger(), nullable=False),
        sa.Column("at", sa.BigInteger(), nullable=False),
        sa.Column("content", sa.JSON(), nullable=False),
        sa.PrimaryKeyConstraint("notice_id", name="pk_notice_posts"),
        sa.UniqueConstraint("topic", "seq", name="uq_notice_posts_topic_seq"),
    )
    op.create_index("ix_notice_posts_at", "notice_posts", ["at"])
    op.create_table(
        "notice_deliveries",
        sa.Column("receiver", sa.String(length=40), nullable=False),
        sa.Column("notice_id", sa.String(length=36), nullable=False),
        sa.ForeignKeyConstraint(
            ["notice_id"],
            ["notice_posts.notice_id"],
            name="fk_notice_deliveries_notice_id_notice_posts",
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("receiver", "notice_id", name="pk_notice_deliveries"),
    )
    op.create_table(
        "rca_behaviour_notices",
        sa.Column("behaviour", sa.String(length=64), nullable=False),
        sa.Column("noticed_at", sa.BigInteger(), nullable=False),
        sa.Column("counted", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("behaviour", name="pk_rca_behaviour_notices"),
    )
    op.create_table(
        "run_searches",
        sa.Column("run_id", sa.String(length=200), nullable=False),
        sa.Column("written_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("run_id", name="pk_run_searches"),
    )
    op.create_index("ix_run_searches_written_at", "run_searches", ["written_at"])
    op.create_table(
        "run_search_switch",
        sa.Column("name", sa.String(length=8), nullable=False),
        sa.PrimaryKeyConstraint("name", name="pk_run_search_switch"),
    )


def downgrade() -> None:
    for table in (
        "run_search_switch",
        "run_searches",
        "rca_behaviour_notices",
        "notice_deliveries",
        "notice_posts",
    ):
        op.drop_table(table)
