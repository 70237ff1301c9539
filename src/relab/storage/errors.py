"""Errors of the database layer."""

from __future__ import annotations

from relab.core.errors import ConfigurationError, ConflictError, UnavailableError


class DatabaseUnavailableError(UnavailableError):
    """The database cannot be reached, or another process kept it locked for too long: wait and retry."""

    code = "database_unavailable"


class DiskFullError(DatabaseUnavailableError):
    """The disk of the database has no space for a write: an operator must free space.

    Args:
        place: the path of the database's file, or the URL of its server, for the message.
        free_bytes: the free space of the disk; None if this process cannot read it.
        reason: the reason in words, for the message.
    """

    code = "disk_full"
    is_safe_to_show = True

    def __init__(self, place: str, *, free_bytes: int | None = None, reason: str) -> None:
        left = "" if free_bytes is None else f" ({free_bytes:,} bytes are free)"
        super().__init__(
            f"The disk of the database {place} is full{left}: {reason}. Nothing can be stored.",
            remedy="Free space on that disk, then run for example `lab agent-runs prune --older-than 30d`; or move the database (DATABASE_URL).",
        )


class DatabaseDamagedError(ConfigurationError):
    """The SQLite file of the database is damaged, or is no SQLite database: an operator must restore it.

    It is not a `DatabaseUnavailableError`, because a retry cannot succeed.

    Args:
        path: the path of the file, for the message.
        reason: the reason in words, for the message.
    """

    code = "database_damaged"

    def __init__(self, path: str, *, reason: str) -> None:
        super().__init__(
            f"The database {path} is damaged, or is no SQLite database: {reason}.",
            remedy="Stop relab and restore the file from a backup, or save what `sqlite3 FILE .recover` can read; or point "
            "DATABASE_URL at another file.",
        )


class ConstraintError(ConflictError):
    """A write violated a constraint, mostly because of a concurrent write: read the data again before a retry."""

    code = "constraint"


class SchemaError(ConfigurationError):
    """The schema of the database does not fit this version of relab: an operator must act."""

    code = "database_schema"


class NewerSchemaError(SchemaError):
    """A newer version of relab migrated the database: use that version."""

    code = "database_schema_newer"


class OutdatedSchemaError(SchemaError):
    """The database is empty, or its schema is older than this version of relab needs: run `lab db upgrade`."""

    code = "database_schema_outdated"


class ForeignDatabaseError(SchemaError):
    """The database contains tables of another program, and no tables of relab, so relab does not change it."""

    code = "database_foreign"
