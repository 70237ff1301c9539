"""Record probes in the timeline of their incident, with names, times, facts and unanswered requests."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final

from relab.core.clock import Clock
from relab.core.errors import NotFoundError, UnavailableError
from relab.core.logging import get_logger
from relab.incidents.probes.catalogue import PROBES
from relab.incidents.probes.client import ProbeClient
from relab.incidents.probes.models import BUDGET_S, Probe, ProbeResult
from relab.incidents.probes.requests import ProbeTransport
from relab.incidents.storage.log import IncidentLog
from relab.incidents.storage.models import NewEvent
from relab.incidents.storage.text_limits import cut
from relab.incidents.tracing.steps import PROBED, facts_of

_MAX_FACT: Final = 200
_MAX_REASON: Final = 300

_log = get_logger(__name__)


class RecordingProbeClient(ProbeClient):
    """Runs probes, and records them in the timeline of the current incident.

    Args:
        asker: sends the requests of the probes.
        log: stores the timelines.
        clock: gives the times of the events.
        incident: a function that returns the id of the incident that the responder works on, or None.
    """

    def __init__(
        self, asker: ProbeTransport, log: IncidentLog, clock: Clock, incident: Callable[[], str | None]
    ) -> None:
        super().__init__(asker)
        self._events = log
        self._time = clock
        self._incident = incident

    async def run(self, names: Iterable[str], *, within_s: float = BUDGET_S) -> ProbeResult:
        """Run the named probes within `within_s` seconds, return what they find, and record them in the timeline.

        Without an incident, nothing is recorded. A failure to record the probes is only logged.
        """
        wanted = tuple(dict.fromkeys(names))
        began_us, began_s = self._time.now_us(), time.monotonic()
        found = await super().run(wanted, within_s=within_s)
        incident_id = self._incident()
        if incident_id is not None and wanted:
            event = probe_event(wanted, found, began_us=began_us, took_s=time.monotonic() - began_s)
            try:
                await asyncio.to_thread(self._events.append, incident_id, event, at_us=self._time.now_us())
            except (UnavailableError, NotFoundError) as error:
                _log.warning("probes_not_recorded", incident_id=incident_id, error=str(error))
        return found


def probe_event(names: Sequence[str], found: ProbeResult, *, began_us: int, took_s: float) -> NewEvent:
    """Return the timeline event about probes that were run together.

    Args:
        names: the names of the probes.
        found: the facts and the evidence that the probes gave.
        began_us: when the probes began, in microseconds since 1970.
        took_s: how long the probes took together, in seconds.
    """
    rows = [_row(PROBES[name], found) for name in names]
    silent = list(dict.fromkeys(request for row in rows for request in row["absent"]))
    said = f"{', '.join(names)}: {facts_of(len(found.facts))} found."
    if silent:
        said += f" No answer to {', '.join(silent)}."
    return NewEvent(PROBED, said, {"began_us": began_us, "took_ms": round(took_s * 1_000), "looks": rows})


def _row(probe: Probe, found: ProbeResult) -> dict[str, Any]:
    requests = dict.fromkeys(str(ask) for ask in probe.requests)
    return {
        "look": probe.name,
        "requests": list(requests),
        "facts": {item.fact: _short(item.value) for item in found.evidence if item.look == probe.name},
        "absent": {name: cut(found.absent[name], _MAX_REASON) for name in requests if name in found.absent},
    }


def _short(value: Any) -> Any:
    return cut(value, _MAX_FACT) if isinstance(value, str) else value
