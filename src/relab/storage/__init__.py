"""Access to relab's own database, SQLite or PostgreSQL: engine, transactions, bulk writes and migrations."""

from relab.storage.database import Database, UnitOfWork

__all__ = ["Database", "UnitOfWork"]
