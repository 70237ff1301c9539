"""INSERT statements that support ON CONFLICT, on every database."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from sqlalchemy import Table

from relab.storage.session import DatabaseSession


def insert_into(session: DatabaseSession, table: Table) -> Any:
    """Return an INSERT statement for `table`, in the SQL dialect of the session's database.

    Its methods `on_conflict_do_update` and `on_conflict_do_nothing` say what happens to rows that exist already.
    """
    # Only this dialect is imported, because each dialect module takes megabytes.
    return import_module(f"sqlalchemy.dialects.{session.get_bind().dialect.name}").insert(table)
