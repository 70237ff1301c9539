"""Say which agent runs are stored or were deleted, so that their sender can find out which it must send again."""

from __future__ import annotations

from collections.abc import Iterable

from sqlalchemy import select

from relab.storage import Database
from relab.storage.bulk import chunks
from relab.telemetry.tables import AgentRunRow, DeletedTrialRunRow


class StoredRuns:
    """Reads which agent runs are stored, and which runs of trials a person has deleted.

    Args:
        database: the database of the agent runs.
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    def starts(self, run_ids: Iterable[str]) -> dict[str, int]:
        """Return `{run id: start in microseconds since 1970}` of those of these runs that are known.

        A run is known if it is stored, or if it is the run of a trial that a person has deleted, and is not stored again.

        Raises:
            DatabaseUnavailableError: the database cannot be used now.
        """
        found: dict[str, int] = {}
        with self._database.read() as session:
            for ids in chunks(run_ids):
                for table in (DeletedTrialRunRow, AgentRunRow):
                    statement = select(table.run_id, table.started_at).where(table.run_id.in_(ids))
                    found |= {row.run_id: row.started_at for row in session.execute(statement)}
        return found
