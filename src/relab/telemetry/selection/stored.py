"""Say which agent runs are stored, so that their sender can find out which it must send again."""

from __future__ import annotations

from collections.abc import Iterable

from sqlalchemy import select

from relab.storage import Database
from relab.storage.bulk import chunks
from relab.telemetry.tables import AgentRunRow


class StoredRuns:
    """Reads which agent runs are stored.

    Args:
        database: the database of the agent runs.
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    def starts(self, run_ids: Iterable[str]) -> dict[str, int]:
        """Return `{run id: start in microseconds since 1970}` of those of these runs that are stored.

        Raises:
            DatabaseUnavailableError: the database cannot be used now.
        """
        found: dict[str, int] = {}
        with self._database.read() as session:
            for ids in chunks(run_ids):
                statement = select(AgentRunRow.run_id, AgentRunRow.started_at).where(AgentRunRow.run_id.in_(ids))
                found |= {row.run_id: row.started_at for row in session.execute(statement)}
        return found
