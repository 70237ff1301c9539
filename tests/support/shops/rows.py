"""Whether stored incidents have changed."""

from __future__ import annotations

import sqlite3

from relab.storage import Database


class RowsOfIncidents:
    """The stored rows of a target's incidents, read in a hundredth of the time that incidents take.

    Conditions are evaluated hundreds of times a second, and the incidents hardly ever differ.
    """

    def __init__(self, database: Database, target: str) -> None:
        self._database, self._target = database, target
        path = database.engine.url.database if database.is_sqlite else None
        self._connection = path and sqlite3.connect(path)

    def read(self) -> object:
        """Return the rows; None if the database is away or no SQLite file, or after `close`."""
        if not self._connection or getattr(self._database, "is_away", False):
            return None
        return self._connection.execute("SELECT * FROM incidents WHERE target = ?", [self._target]).fetchall()

    def close(self) -> None:
        """Close the connection."""
        if self._connection:
            self._connection.close()
            self._connection = None
