"""Write incidents to telemetry as agent runs, and keep the runs up to date."""

from __future__ import annotations

from typing import Final

from pydantic import ValidationError

from relab.core.clock import Clock
from relab.core.errors import ConflictError, NotFoundError
from relab.core.logging import get_logger
from relab.incidents.postmortem.service import incident_record
from relab.incidents.storage.errors import IncidentNotFoundError
from relab.incidents.storage.log import IncidentLog
from relab.incidents.storage.models import IncidentSummary
from relab.incidents.tracing.projection import agent_run_id, agent_run_of
from relab.telemetry.service import TelemetryService

NEWEST: Final = 50
"""How many of the newest incidents are checked for events that their runs lack, also from times without a recorder."""
_MAX_AGE_US: Final = 86_400 * 1_000_000

_log = get_logger(__name__)


class RunRecorder:
    """Stores each incident of a target as an agent run in telemetry, and updates the run when the timeline grows.

    Two processes may write at the same time, because both write the same content.
    """

    def __init__(self, log: IncidentLog, telemetry: TelemetryService, clock: Clock, target: str) -> None:
        self._log = log
        self._telemetry = telemetry
        self._clock = clock
        self._target = target
        # Only a cache: a stored run contains the number of the last event that it covers.
        self._written: dict[str, int] = {}

    def clear_cache(self) -> None:
        """Forget which events were already written, so that the next `catch_up` compares with the stored runs.

        Call this when another process may have written runs.
        """
        self._written = {}

    def catch_up(self) -> int:
        """Store the incidents that have new events as agent runs in telemetry; return how many were stored.

        Only the newest incidents of the target, at most `NEWEST`, are checked.

        Raises:
            UnavailableError: the database cannot be reached.
        """
        count = 0
        for each in self._log.list_incidents(target=self._target, limit=NEWEST).items:
            if self._written.get(each.incident_id) == each.last_seq:
                continue
            try:
                if self._is_wanted(each):
                    self.record(each.incident_id)
                    count += 1
            except IncidentNotFoundError:
                # It was deleted since it was listed, so it needs no run; continue with the others.
                continue
            except (ConflictError, ValidationError) as error:
                # The id belongs to a run that was sent as spans, or the run is not valid; continue with the others.
                _log.warning("incident_not_recorded", incident_id=each.incident_id, error=str(error))
            self._written[each.incident_id] = each.last_seq
        return count

    def record(self, incident_id: str) -> None:
        """Store an incident as an agent run in telemetry; storing it again without a change has no effect.

        Raises:
            NotFoundError: no incident has this id.
            ConflictError: a run from another source has the same id.
        """
        self._telemetry.ingest(agent_run_of(incident_record(self._log, incident_id)))

    def _is_wanted(self, incident: IncidentSummary) -> bool:
        """Return whether the agent run of an incident must be written now, which has two possible reasons.

        - The stored run does not cover the incident's last event.
        - No run is stored, and the incident is open or ended less than a day ago.
        """
        try:
            header = self._telemetry.get(agent_run_id(incident.incident_id))
        except NotFoundError:
            # The missing run of an older incident was written and deleted since, and must stay deleted.
            closed_us = incident.closed_at
            return closed_us is None or self._clock.now_us() - closed_us < _MAX_AGE_US
        summary = (header.model_extra or {}).get("incident")
        return not isinstance(summary, dict) or summary.get("last_seq") != incident.last_seq
