"""Migration to revision 0007: store whether an installation needs a token.

Without this state, revoking the last token would open the installation to requests without a token.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None


def upgrade() -> None:
    state = op.create_table(
        "access_state",
        sa.Column("state_id", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("is_closed", sa.Boolean(), nullable=False),
        sa.Column("changed_at", sa.BigInteger(), nullable=True),
        sa.PrimaryKeyConstraint("state_id", name="pk_access_state"),
    )
    op.create_table(
        "access_events",
        sa.Column("event_id", sa.String(length=36), nullable=False),
        sa.Column("at", sa.BigInteger(), nullable=False),
        sa.Column("kind", sa.String(length=20), nullable=False),
        sa.Column("token_id", sa.String(length=36), nullable=True),
        sa.Column("actor", sa.String(length=200), nullable=False),
        sa.PrimaryKeyConstraint("event_id", name="pk_access_events"),
    )
    # A token created with an older version closes the installation too, even if it is revoked or expired.
    newest = op.get_bind().execute(sa.text("SELECT MAX(created_at) FROM access_tokens")).scalar_one()
    op.bulk_insert(state, [{"state_id": 1, "is_closed": newest is not None, "changed_at": newest}])


def downgrade() -> None:
    op.drop_table("access_events")
    op.drop_table("access_state")
