"""Migration to revision 0005: incidents with timelines, actions, approvals and alerts, and responders' shared state."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    _incidents()
    _events()
    _acts()
    _approvals()
    _alerts()
    _agreements()


def downgrade() -> None:
    for table in (
        "responder_baselines",
        "responder_leases",
        "responder_switches",
        "incident_alerts",
        "incident_approvals",
        "incident_acts",
        "incident_events",
        "incidents",
    ):
        op.drop_table(table)


def _incidents() -> None:
    op.create_table(
        "incidents",
        sa.Column("incident_id", sa.String(length=36), nullable=False),
        sa.Column("target", sa.String(length=200), nullable=False),
        sa.Column("opened_at", sa.BigInteger(), nullable=False),
        sa.Column("updated_at", sa.BigInteger(), nullable=False),
        sa.Column("closed_at", sa.BigInteger(), nullable=True),
        sa.Column("status", sa.String(length=20), nullable=False),
        sa.Column("phase", sa.String(length=20), nullable=False),
        sa.Column("severity", sa.String(length=20), nullable=False),
        sa.Column("outcome", sa.String(length=20), nullable=True),
        sa.Column("title", sa.String(length=1000), nullable=False),
        sa.Column("diagnosis", sa.String(length=200), nullable=True),
        sa.Column("probability", sa.Float(), nullable=True),
        sa.Column("recommendation", sa.Text(), nullable=False),
        sa.Column("last_seq", sa.Integer(), nullable=False),
        sa.Column("findings", sa.JSON(), nullable=False),
        sa.Column("symptoms", sa.JSON(), nullable=False),
        sa.Column("plan", sa.JSON(), nullable=True),
        sa.Column("content", sa.JSON(), nullable=False),
        sa.PrimaryKeyConstraint("incident_id", name="pk_incidents"),
    )
    is_open = sa.text("closed_at IS NULL")
    op.create_index(
        "uq_incidents_open_target", "incidents", ["target"], unique=True, sqlite_where=is_open, postgresql_where=is_open
    )
    op.create_index("ix_incidents_opened_at_incident_id", "incidents", ["opened_at", "incident_id"])
    op.create_index("ix_incidents_target_opened_at", "incidents", ["target", "opened_at"])


def _events() -> None:
    op.create_table(
        "incident_events",
        sa.Column("incident_id", sa.String(length=36), nullable=False),
        sa.Column("seq", sa.Integer(), nullable=False),
        sa.Column("kind", sa.String(length=60), nullable=False),
        sa.Column("at", sa.BigInteger(), nullable=False),
        sa.Column("message", sa.Text(), nullable=False),
        sa.Column("content", sa.JSON(), nullable=False),
        sa.Column("evidence", sa.JSON(), nullable=False),
        sa.Column("once", sa.String(length=200), nullable=True),
        _of_incident("incident_events", "CASCADE"),
        sa.PrimaryKeyConstraint("incident_id", "seq", name="pk_incident_events"),
        sa.UniqueConstraint("incident_id", "once", name="uq_incident_events_incident_id_once"),
    )


def _acts() -> None:
    op.create_table(
        "incident_acts",
        sa.Column("key", sa.String(length=200), nullable=False),
        sa.Column("incident_id", sa.String(length=36), nullable=False),
        sa.Column("seq", sa.Integer(), nullable=False),
        sa.Column("target", sa.String(length=200), nullable=False),
        sa.Column("status", sa.String(length=16), nullable=False),
        sa.Column("asked_at", sa.BigInteger(), nullable=False),
        sa.Column("content", sa.JSON(), nullable=False),
        _of_incident("incident_acts", "CASCADE"),
        sa.PrimaryKeyConstraint("key", name="pk_incident_acts"),
    )
    op.create_index("ix_incident_acts_incident_id_seq", "incident_acts", ["incident_id", "seq"])
    op.create_index("ix_incident_acts_target_asked_at", "incident_acts", ["target", "asked_at"])
    op.create_index("ix_incident_acts_status", "incident_acts", ["status"])


def _approvals() -> None:
    op.create_table(
        "incident_approvals",
        sa.Column("approval_id", sa.String(length=200), nullable=False),
        sa.Column("incident_id", sa.String(length=36), nullable=False),
        sa.Column("asked_at", sa.BigInteger(), nullable=False),
        sa.Column("expires_at", sa.BigInteger(), nullable=False),
        sa.Column("request", sa.JSON(), nullable=False),
        sa.Column("decision", sa.JSON(), nullable=True),
        _of_incident("incident_approvals", "CASCADE"),
        sa.PrimaryKeyConstraint("approval_id", name="pk_incident_approvals"),
    )
    op.create_index("ix_incident_approvals_incident_id_asked_at", "incident_approvals", ["incident_id", "asked_at"])


def _alerts() -> None:
    op.create_table(
        "incident_alerts",
        sa.Column("group_key", sa.String(length=200), nullable=False),
        sa.Column("fingerprint", sa.String(length=200), nullable=False),
        sa.Column("starts_at", sa.BigInteger(), nullable=False),
        sa.Column("is_firing", sa.Boolean(), nullable=False),
        sa.Column("incident_id", sa.String(length=36), nullable=True),
        sa.Column("first_at", sa.BigInteger(), nullable=False),
        sa.Column("last_at", sa.BigInteger(), nullable=False),
        _of_incident("incident_alerts", "SET NULL"),
        sa.PrimaryKeyConstraint("group_key", "fingerprint", "starts_at", name="pk_incident_alerts"),
    )
    op.create_index("ix_incident_alerts_last_at", "incident_alerts", ["last_at"])


def _agreements() -> None:
    op.create_table(
        "responder_switches",
        sa.Column("target", sa.String(length=200), nullable=False),
        sa.Column("is_paused", sa.Boolean(), nullable=False),
        sa.Column("by", sa.String(length=200), nullable=False),
        sa.Column("at", sa.BigInteger(), nullable=False),
        sa.Column("why", sa.String(length=1000), nullable=False),
        sa.PrimaryKeyConstraint("target", name="pk_responder_switches"),
    )
    op.create_table(
        "responder_leases",
        sa.Column("target", sa.String(length=200), nullable=False),
        sa.Column("owner", sa.String(length=200), nullable=False),
        sa.Column("term", sa.Integer(), nullable=False),
        sa.Column("until", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("target", name="pk_responder_leases"),
    )
    op.create_table(
        "responder_baselines",
        sa.Column("target", sa.String(length=200), nullable=False),
        sa.Column("saved_at", sa.BigInteger(), nullable=False),
        sa.Column("content", sa.JSON(), nullable=False),
        sa.PrimaryKeyConstraint("target", name="pk_responder_baselines"),
    )


def _of_incident(table: str, at_deletion: str) -> sa.ForeignKeyConstraint:
    return sa.ForeignKeyConstraint(
        ["incident_id"], ["incidents.incident_id"], name=f"fk_{table}_incident_id_incidents", ondelete=at_deletion
    )
