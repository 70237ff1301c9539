"""Alembic's entry point: it runs the migrations on the connection that `storage/migrate.py` opened."""

from __future__ import annotations

from alembic import context

from relab.storage.base import Base
from relab.storage.schema import VERSION_TABLE

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=Base.metadata,
    version_table=VERSION_TABLE,
    compare_type=True,
    render_as_batch=True,
)
# The migrations run in the caller's transaction, so that a failed migration is rolled back.
context.run_migrations()
