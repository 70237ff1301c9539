"""INSERT statements that support ON CONFLICT, on every database."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from sqlalchemy import Table

from relab.storage.session import DatabaseSession


def insert_into(session: DatabaseSession, table: Table) -> Any:
    """Return an INSERT statement with `on_conflict_do_update`, in the SQL dialect of the session's database."""
    # Only this dialect is imported, because each dialect module takes megabytes.
    return import_module(f"sqlalchemy.dialects.{session.get_bind().dialect.name}").insert(table)
