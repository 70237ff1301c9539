"""Migration to revision 0006: tables for notices about incidents, their receivers, and requests from Slack."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "notice_receivers",
        sa.Column("receiver", sa.String(length=40), nullable=False),
        sa.Column("since", sa.BigInteger(), nullable=False),
        sa.Column("sent", sa.Integer(), nullable=False),
        sa.Column("given_up", sa.Integer(), nullable=False),
        sa.Column("last_sent_at", sa.BigInteger(), nullable=True),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("retry_at", sa.BigInteger(), nullable=True),
        sa.Column("error", sa.Text(), nullable=True),
        sa.PrimaryKeyConstraint("receiver", name="pk_notice_receivers"),
    )
    op.create_table(
        "notice_places",
        sa.Column("receiver", sa.String(length=40), nullable=False),
        sa.Column("incident_id", sa.String(length=36), nullable=False),
        sa.Column("seq", sa.Integer(), nullable=False),
        sa.Column("is_over", sa.Boolean(), nullable=False),
        sa.ForeignKeyConstraint(
            ["incident_id"],
            ["incidents.incident_id"],
            name="fk_notice_places_incident_id_incidents",
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("receiver", "incident_id", name="pk_notice_places"),
    )
    op.create_index("ix_notice_places_receiver_is_over", "notice_places", ["receiver", "is_over"])
    op.create_table(
        "slack_requests",
        sa.Column("signature", sa.String(length=64), nullable=False),
        sa.Column("at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("signature", name="pk_slack_requests"),
    )
    op.create_index("ix_slack_requests_at", "slack_requests", ["at"])


def downgrade() -> None:
    for table in ("slack_requests", "notice_places", "notice_receivers"):
        op.drop_table(table)
