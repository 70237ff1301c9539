"""The list of runs that are still to be searched for behaviours (patterns that rules in a file describe).

The transaction that writes a run adds the run to the list (`search_repository.collect`) if searches are switched on,
and the run has agent activity and has ended. Runs that need a root cause analysis are not added: it searches them too.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from sqlalchemy import select

from relab.core.clock import Clock
from relab.storage import Database
from relab.telemetry import search_repository
from relab.telemetry.filtering import newest_quiet, recent_times
from relab.telemetry.projection.projector import Projector
from relab.telemetry.search_tables import RunSearchRow

KEPT_US: Final = 3_600 * 1_000_000
"""A run that was not searched within this time (1 hour) is not searched at all, because more runs arrive than can be searched."""


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
            if search_repository.is_on(session) is is_on:
                return
        step = search_repository.switch_on if is_on else search_repository.switch_off
        with self._database.write(durable=False) as unit:
            step(unit.session)

    def due(self, quiet_s: float, limit: int) -> dict[str, int]:
        """Return up to `limit` runs to search for behaviours (patterns), as `{run id: time of its last write}`.

        The last written runs come first. The times are in microseconds since 1970. Runs that were written within the last `quiet_s` seconds are left out.
        """
        row = RunSearchRow
        recent = recent_times(self._clock.now_us(), int(quiet_s * 1_000_000))
        statement = select(row.run_id, row.written_at)
        with self._projector.reading() as session:
            return dict(newest_quiet(session, statement, row.written_at, recent, limit))

    def done(self, searched: Mapping[str, int]) -> None:
        """Remove the searched runs from the list of runs to search.

        Runs that have waited for more than an hour are removed unsearched.

        Args:
            searched: `{run id: time of its last write before the search}`. A run that was written again since then
                stays in the list.
        """
        with self._database.write(durable=False) as unit:
            search_repository.remove(unit.session, searched, before_us=self._clock.now_us() - KEPT_US)
