"""Count the stored incidents and actions, and measure how long incidents lasted, to monitor the responder."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from sqlalchemy import case, func, select

from relab.incidents.storage.tables import ActionRow, IncidentRow
from relab.storage import Database

DURATION_BOUNDS_S: Final = (10, 30, 60, 120, 300, 600, 1_800, 3_600, 14_400, 86_400)
_US: Final = 1_000_000


@dataclass(frozen=True, slots=True)
class DurationHistogram:
    """A histogram of the durations of incidents, from opening to end.

    Attributes:
        within: for each bound in `DURATION_BOUNDS_S`, how many incidents took at most that long. The numbers are
            cumulative.
        number: the number of incidents.
        sum_s: the sum of their durations, in seconds.
    """

    within: tuple[int, ...]
    number: int
    sum_s: float


@dataclass(frozen=True, slots=True)
class IncidentMetrics:
    """The counts of incidents and actions, and the durations of incidents, at one time.

    Attributes:
        incidents: the number of incidents by (target, status, outcome); the outcome is empty until an incident is over.
        durations: a histogram of the durations of incidents that are over, by (target, outcome).
        actions: the number of actions by (target, status).
    """

    incidents: Mapping[tuple[str, str, str], int]
    durations: Mapping[tuple[str, str], DurationHistogram]
    actions: Mapping[tuple[str, str], int]


class IncidentFigures:
    """Counts the incidents and actions of all targets in the database, and measures how long incidents lasted."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def read(self) -> IncidentMetrics:
        """Return the counts of incidents and actions of all targets, and the durations of incidents that are over."""
        kinds = (IncidentRow.target, IncidentRow.status, func.coalesce(IncidentRow.outcome, ""))
        took = IncidentRow.closed_at - IncidentRow.opened_at
        # The difference is negative if the clock was set back in between.
        lasted = case((took > 0, took), else_=0)
        within = [func.sum(case((lasted <= bound * _US, 1), else_=0)) for bound in DURATION_BOUNDS_S]
        ends = (IncidentRow.target, IncidentRow.outcome)
        of_acts = (ActionRow.target, ActionRow.status)
        with self._database.read() as session:
            incidents = session.execute(select(*kinds, func.count()).group_by(*kinds)).all()
            ended = select(*ends, func.count(), func.sum(lasted), *within).where(IncidentRow.closed_at.is_not(None))
            durations = session.execute(ended.group_by(*ends)).all()
            acts = session.execute(select(*of_acts, func.count()).group_by(*of_acts)).all()
        return IncidentMetrics(
            {(target, status, outcome or ""): number for target, status, outcome, number in incidents},
            {
                (target, outcome or ""): DurationHistogram(tuple(counts), number, float(total) / _US)
                for target, outcome, number, total, *counts in durations
            },
            {(target, status): number for target, status, number in acts},
        )
