"""Queries over the list of runs that are still to be searched for behaviours (patterns that rules in a file describe).

The database also stores whether searches are switched on, so that all processes have the same setting.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final

from sqlalchemy import delete, select

from relab.storage.base import table_of
from relab.storage.bulk import chunks
from relab.storage.session import DatabaseSession
from relab.storage.upsert import insert_into
from relab.telemetry.models import RunStatus
from relab.telemetry.outcome_models import OutcomeRule
from relab.telemetry.records import RunRecord
from relab.telemetry.search_tables import RunSearchRow, RunSearchSwitchRow

_ON: Final = "on"


def collect(session: DatabaseSession, written: Iterable[tuple[RunRecord, int]]) -> None:
    """Add runs to the list of runs to search for behaviours (patterns that rules describe), if searches are on.

    Args:
        session: the session of the transaction that writes the runs.
        written: `(run, time of its last write)`; the time is the run's `updated_at`, in microseconds since 1970. A run
            is skipped if it is still running, or if its trace has no agent activity. It is also skipped if it needs an
            analysis (`RunRecord.is_suspect`), because the analysis searches it for behaviours, too.
    """
    times = {record.run_id: at_us for record, at_us in written if _is_searched(record)}
    # Searches may be switched off.
    if not times or not is_on(session):
        return
    table = table_of(RunSearchRow)
    for some in chunks(sorted(times)):
        rows = [{"run_id": run_id, "written_at": times[run_id]} for run_id in some]
        statement = insert_into(session, table).values(rows)
        session.execute(
            statement.on_conflict_do_update(
                index_elements=["run_id"], set_={"written_at": statement.excluded.written_at}
            )
        )


def is_on(session: DatabaseSession) -> bool:
    """Return whether new runs are added to the list of runs to search."""
    return session.execute(select(RunSearchSwitchRow.name)).first() is not None


def switch_on(session: DatabaseSession) -> None:
    """Switch searches on: from now on, new runs are added to the list of runs to search."""
    session.execute(insert_into(session, table_of(RunSearchSwitchRow)).values(name=_ON).on_conflict_do_nothing())


def switch_off(session: DatabaseSession) -> None:
    """Switch searches off: empty the list of runs to search, and add no new runs to it from now on."""
    session.execute(delete(table_of(RunSearchSwitchRow)))
    session.execute(delete(table_of(RunSearchRow)))


def remove(session: DatabaseSession, searched: Mapping[str, int], *, before_us: int) -> None:
    """Remove the searched runs from the list of runs to search, and all runs that were written before `before_us`.

    Args:
        session: the session of the transaction.
        searched: `{run id: time of its last write before the search}`, in microseconds since 1970. A run that was
            written again since then stays in the list.
        before_us: runs written before this time are removed, searched or not, in microseconds since 1970.
    """
    table = table_of(RunSearchRow)
    for run_id, written_at in sorted(searched.items()):
        session.execute(delete(table).where(table.c.run_id == run_id, table.c.written_at == written_at))
    session.execute(delete(table).where(table.c.written_at < before_us))


def _is_searched(record: RunRecord) -> bool:
    row = record.row
    has_activity = row.outcome_rule != OutcomeRule.NO_AGENT_ACTIVITY
    return not record.is_suspect and row.status != RunStatus.RUNNING and has_activity
