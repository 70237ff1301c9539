"""Count the traces without agent activity: traces of instrumented programs in which no agent ran.

Coding agents and other programs export separate traces with spans of their own functions, such as database queries. The
run of such a trace is stored and can be read by its id, but lists and sums leave it out. `otlp/projection.py` decides
which traces have no agent activity. If the span of an agent arrives later, the trace becomes an agent run.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from sqlalchemy import func, select

from relab.telemetry.filtering import filtered
from relab.telemetry.outcome_models import OutcomeRule
from relab.telemetry.tables import AgentRunRow

if TYPE_CHECKING:
    from relab.telemetry.models import RunFilter
    from relab.telemetry.projection.projector import Projector


class NoAgentActivity:
    """Counts the traces without agent activity: traces of instrumented programs in which no agent ran.

    Args:
        projector: computes runs from their newest spans before `count` reads the runs.
    """

    max_counted: Final = 1_000
    """The maximum result of `count`; without a limit, a count would read a long history."""

    def __init__(self, projector: Projector) -> None:
        self._projector = projector

    def count(self, run_filter: RunFilter) -> int:
        """Return the number of traces without agent activity that match the filter, at most `max_counted`."""
        wanted = run_filter.model_copy(update={"all_traces": True})
        inactive = AgentRunRow.outcome_rule == OutcomeRule.NO_AGENT_ACTIVITY.value
        found = filtered(select(AgentRunRow.run_id).where(inactive), wanted).limit(self.max_counted).subquery()
        with self._projector.reading(from_us=run_filter.started_after_us or 0) as session:
            number: int = session.execute(select(func.count()).select_from(found)).scalar_one()
        return number
