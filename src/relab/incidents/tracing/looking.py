"""Record looks in the timeline of their incident: their names, times, facts, and requests without an answer."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Final

import structlog

from relab.core.clock import Clock
from relab.core.errors import NotFoundError, UnavailableError
from relab.incidents.looks.asking import Asker
from relab.incidents.looks.catalogue import LOOKS
from relab.incidents.looks.client import BUDGET_S, LookClient
from relab.incidents.looks.models import Look, Looked
from relab.incidents.storage.log import IncidentLog
from relab.incidents.storage.models import NewEvent
from relab.incidents.storage.texts import cut
from relab.incidents.tracing.steps import LOOKED, facts_of

_MOST_FACT: Final = 200
_MOST_REASON: Final = 300

_log = structlog.get_logger(__name__)


class ToldLooks(LookClient):
    """Takes looks, and records them in a timeline.

    Args:
        asker: makes the requests.
        log: the log with the timelines.
        incident: returns the id of the incident that the responder works on, or None.
    """

    def __init__(self, asker: Asker, log: IncidentLog, clock: Clock, incident: Callable[[], str | None]) -> None:
        super().__init__(asker)
        self._told_in = log
        self._time = clock
        self._incident = incident

    async def take(self, names: Iterable[str], *, within_s: float = BUDGET_S) -> Looked:
        """Take looks; see `LookClient.take`. A failure to record them is only logged."""
        wanted = tuple(dict.fromkeys(names))
        began_us, began_s = self._time.now_us(), time.monotonic()
        found = await super().take(wanted, within_s=within_s)
        incident_id = self._incident()
        if incident_id is not None and wanted:
            told = looked_event(wanted, found, began_us=began_us, took_s=time.monotonic() - began_s)
            try:
                await asyncio.to_thread(self._told_in.append, incident_id, told, at_us=self._time.now_us())
            except (UnavailableError, NotFoundError) as error:
                _log.warning("looks_not_told", incident_id=incident_id, error=str(error))
        return found


def looked_event(
    names: Sequence[str], found: Looked, *, began_us: int, took_s: float, looks: Mapping[str, Look] = LOOKS
) -> NewEvent:
    """Return the timeline event of looks that were taken together."""
    rows = [_row(looks[name], found) for name in names]
    silent = list(dict.fromkeys(request for row in rows for request in row["absent"]))
    said = f"Looked at {', '.join(names)}: {facts_of(len(found.facts))}."
    if silent:
        said += f" No answer to {', '.join(silent)}."
    return NewEvent(LOOKED, said, {"began_us": began_us, "took_ms": round(took_s * 1_000), "looks": rows})


def _row(look: Look, found: Looked) -> dict[str, Any]:
    requests = dict.fromkeys(str(ask) for ask in look.asks)
    return {
        "look": look.name,
        "requests": list(requests),
        "facts": {item.fact: _short(item.value) for item in found.evidence if item.look == look.name},
        "absent": {name: cut(found.absent[name], _MOST_REASON) for name in requests if name in found.absent},
    }


def _short(value: Any) -> Any:
    return cut(value, _MOST_FACT) if isinstance(value, str) else value
