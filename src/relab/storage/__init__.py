"""Engine, unit of work and migrations; all access to the database uses this package."""

from relab.storage.database import Database, UnitOfWork

__all__ = ["Database", "UnitOfWork"]
