"""Poll a target: send a few requests at the same time, and return a snapshot of their answers."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Final
from urllib.parse import urlencode

from relab.core.clock import Clock
from relab.incidents.models import POLL_LATENCY, AbsenceReason, Snapshot
from relab.incidents.polling.loop_delay import LoopDelay
from relab.incidents.polling.schedule import requested_window_s
from relab.incidents.polling.snapshots import read_poll
from relab.incidents.probes.log_templates import count_templates
from relab.incidents.probes.models import ProbeRequest, ProbeResponse, ProbeServer
from relab.incidents.probes.requests import HEALTH_PATH, METRICS_PATH, ProbeTransport

_NEEDED: Final = ("health", "metrics")
_LINES: Final = 1_000
_MAX_CURSOR: Final = 2_000
_MAX_TIMEOUT_S: Final = 5.0
_MIN_TIMEOUT_S: Final = 1.0
_MAX_LATE_S: Final = 0.05
"""If this process was itself delayed by more than this, it does not report the target's answer time."""


class Poller:
    """Polls one target.

    Args:
        asker: sends the requests.
        clock: the current time.
        interval_s: the time between two polls, in seconds; `requested_window_s` gives the window of the metrics for it.
    """

    def __init__(self, asker: ProbeTransport, clock: Clock, *, interval_s: float) -> None:
        self._asker = asker
        self._clock = clock
        self._within_s = min(max(interval_s, _MIN_TIMEOUT_S), _MAX_TIMEOUT_S)
        # A longer window would show a change late; a target with a fixed window ignores this parameter.
        window_s = requested_window_s(interval_s)
        self._parts = {
            "health": self._ask(HEALTH_PATH),
            "metrics": self._ask(f"{METRICS_PATH}?window_s={window_s}"),
            "pool": self._ask("/api/v1/pool/status"),
            "processes": self._ask("/api/v1/diagnostics/processes"),
        }
        self._offered = set(_NEEDED)
        self._cursor = "latest"

    async def poll(self) -> Snapshot:
        """Request the target's health, metrics, connection pool, processes and new log lines; return a snapshot.

        The attribute `absent` of the snapshot names the parts without a usable answer, such as `pool`. Optional parts
        (all except `health` and `metrics`) that the target seems not to offer are left out. That is assumed of a part
        if none of its earlier answers was usable, and the present one is unreadable.
        """
        at_us, began_s = self._clock.now_us(), time.monotonic()
        logs = self._ask(f"/api/v1/logs?{urlencode({'since': self._cursor, 'limit': _LINES})}")
        # Retries over other connections take up to a third of the time limit more.
        async with LoopDelay() as own:
            answered = await self._asker.together([*self._parts.values(), logs], 1.5 * self._within_s)
        answers = {part: _said(answered[ask]) for part, ask in self._parts.items()}
        lines = answers["logs"] = self._lines(_said(answered[logs]))
        self._offered.update(part for part, answer in answers.items() if not isinstance(answer, AbsenceReason))
        # A part that the target never offered is not missing; one that it offered before, or that could not be requested, is.
        readings = {
            part: answer
            for part, answer in answers.items()
            if part in self._offered or answer is not AbsenceReason.UNREADABLE
        }
        seen = read_poll(at_us, readings, count_templates([] if isinstance(lines, AbsenceReason) else lines))
        metrics = answered[self._parts["metrics"]][0]
        if metrics.absence is not None or own.worst_s > _MAX_LATE_S:
            return seen
        return replace(seen, numbers={**seen.numbers, POLL_LATENCY: (metrics.at_s - began_s) * 1_000})

    def _lines(self, page: Any | AbsenceReason) -> list[Any] | AbsenceReason:
        if isinstance(page, AbsenceReason):
            if page is AbsenceReason.UNREADABLE:
                # Reset the cursor: the target would reject an expired one forever.
                self._cursor = "latest"
            return page
        lines, cursor = (page.get("logs"), page.get("cursor")) if isinstance(page, Mapping) else (None, None)
        if not isinstance(lines, list) or not isinstance(cursor, str) or not 0 < len(cursor) <= _MAX_CURSOR:
            self._cursor = "latest"
            return AbsenceReason.UNREADABLE
        self._cursor = cursor
        return lines

    def _ask(self, path: str) -> ProbeRequest:
        return ProbeRequest(ProbeServer.TARGET, path, within_s=self._within_s)


def _said(answers: list[ProbeResponse]) -> Any | AbsenceReason:
    answer = answers[0]
    return answer.document if answer.absence is None else answer.absence
