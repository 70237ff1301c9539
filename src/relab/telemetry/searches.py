"""The list of runs that are still to be searched for behaviours (patterns that rules in a file describe).

The transaction that writes a run adds it to the list if searches are on and the run needs no analysis. The database
stores whether searches are on, so that all processes agree.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Final

from sqlalchemy import delete, select
from sqlalchemy.orm import Session

from relab.core.clock import Clock
from relab.storage import Database
from relab.storage.base import table_of
from relab.storage.bulk import chunks
from relab.storage.upsert import insert_into
from relab.telemetry.filtering import newest_quiet, recent_times
from relab.telemetry.models import RunStatus
from relab.telemetry.outcome_models import OutcomeRule
from relab.telemetry.records import RunRecord
from relab.telemetry.search_tables import RunSearchRow, RunSearchSwitchRow

if TYPE_CHECKING:
    from relab.telemetry.projector import Projector

KEPT_US: Final = 3_600 * 1_000_000
"""A run that was not searched within this time (1 hour) is not searched at all, because more runs arrive than can be searched."""
_ON: Final = "on"


def collect(session: Session, records: Iterable[RunRecord], now_us: int) -> None:
    """Add runs to the list of runs that are still to be searched for behaviours (patterns that rules describe).

    Args:
        session: the session of the transaction that writes the runs.
        records: the runs. A run is skipped if it is still running, or if its trace has no agent activity. It is also
            skipped if it failed or has unrecovered errors (`RunRecord.is_suspect`), because its analysis searches it
            for behaviours, too.
        now_us: the time of the write, in microseconds since 1970.
    """
    ids = sorted({each.run_id for each in records if _is_searched(each)})
    # Searches may be switched off.
    if not ids or not _is_on(session):
        return
    table = table_of(RunSearchRow)
    for some in chunks(ids):
        rows = [{"run_id": run_id, "written_at": now_us} for run_id in some]
        statement = insert_into(session, table).values(rows)
        session.execute(
            statement.on_conflict_do_update(
                index_elements=["run_id"], set_={"written_at": statement.excluded.written_at}
            )
        )


class RunSearches:
    """The list of runs that are still to be searched for behaviours (patterns that rules in a file describe)."""

    def __init__(self, database: Database, clock: Clock, projector: Projector) -> None:
        self._database = database
        self._clock = clock
        self._projector = projector

    def switch(self, *, is_on: bool) -> None:
        """Switch the search for behaviours (patterns) in new runs on or off.

        Switching it off also empties the list of runs to search.
        """
        with self._database.read() as session:
            if _is_on(session) is is_on:
                return
        switch = table_of(RunSearchSwitchRow)
        with self._database.write(durable=False) as unit:
            if is_on:
                unit.session.execute(insert_into(unit.session, switch).values(name=_ON).on_conflict_do_nothing())
            else:
                unit.session.execute(delete(switch))
                unit.session.execute(delete(table_of(RunSearchRow)))

    def due(self, quiet_s: float, limit: int) -> dict[str, int]:
        """Return up to `limit` runs to search for behaviours (patterns), newest first, as `{run id: last write time}`.

        The times are in microseconds since 1970. Runs that were written within the last `quiet_s` seconds are left out.
        """
        row = RunSearchRow
        recent = recent_times(self._clock.now_us(), int(quiet_s * 1_000_000))
        statement = select(row.run_id, row.written_at)
        with self._projector.reading() as session:
            return dict(newest_quiet(session, statement, row.written_at, recent, limit))

    def done(self, searched: Mapping[str, int]) -> None:
        """Remove the searched runs from the list of runs to search.

        Runs that waited for more than an hour are removed too.

        Args:
            searched: `{run id: time of its last write before the search}`. A run that was written again since then
                stays in the list.
        """
        table = table_of(RunSearchRow)
        with self._database.write(durable=False) as unit:
            for run_id, written_at in sorted(searched.items()):
                here = (table.c.run_id == run_id, table.c.written_at == written_at)
                unit.session.execute(delete(table).where(*here))
            unit.session.execute(delete(table).where(table.c.written_at < self._clock.now_us() - KEPT_US))


def _is_searched(record: RunRecord) -> bool:
    row = record.row
    has_agent = row.outcome_rule != OutcomeRule.NO_AGENT_ACTIVITY
    return not record.is_suspect and row.status != RunStatus.RUNNING and has_agent


def _is_on(session: Session) -> bool:
    return session.execute(select(RunSearchSwitchRow.name)).first() is not None
