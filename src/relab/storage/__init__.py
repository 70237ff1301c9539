"""Engine, unit of work and migrations: the one way to the database."""

from relab.storage.database import Database, UnitOfWork

__all__ = ["Database", "UnitOfWork"]
