"""Errors of the database layer."""

from __future__ import annotations

from relab.core.errors import ConfigurationError, ConflictError, UnavailableError


class DatabaseUnavailableError(UnavailableError):
    """The database cannot be reached or stayed locked: wait and try again."""

    code = "database_unavailable"


class ConstraintError(ConflictError):
    """A write broke a constraint, mostly because another one came first: look again, then decide."""

    code = "constraint"


class SchemaError(ConfigurationError):
    """The database's schema does not fit this version of relab: an operator must act."""

    code = "database_schema"


class NewerSchemaError(SchemaError):
    """The database was migrated by a newer relab: use that version."""

    code = "database_schema_newer"


class OutdatedSchemaError(SchemaError):
    """The database needs `lab db upgrade`."""

    code = "database_schema_outdated"


class ForeignDatabaseError(SchemaError):
    """The database holds somebody else's tables: relab will not touch it."""

    code = "database_foreign"
