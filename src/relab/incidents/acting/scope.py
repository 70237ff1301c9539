"""How much of a service an incident touches, as users notice it: no act may touch more without a person. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from relab.incidents.acting.catalogue import BlastRadius
from relab.incidents.models import ANSWER, Anomaly, Snapshot

_PARTS: Final = frozenset(("health", "metrics"))
_OF_ALL: Final = frozenset(("errors.pct", "latency.p95_ms", "pool", "health", "traffic.shed", "pool.timeouts", ANSWER))
"""Signals of the service as a whole."""
_CENTRAL: Final = "dependency.database"
"""Without it no route answers."""


def scope_of(anomalies: Iterable[Anomaly], snapshot: Snapshot) -> BlastRadius:
    """Return the widest of what the findings of an incident, and its last poll, tell.

    Args:
        anomalies: all that were confirmed since the incident was opened.
        snapshot: the last poll.
    """
    scopes = [_scope(anomaly) for anomaly in anomalies]
    if _PARTS & snapshot.absent.keys():
        scopes.append(BlastRadius.WHOLE_SERVICE)
    order = list(BlastRadius)
    return max(scopes, key=order.index, default=BlastRadius.NONE)


def _scope(anomaly: Anomaly) -> BlastRadius:
    signal = anomaly.signal
    if not anomaly.opens:
        return BlastRadius.NONE
    if anomaly.detector == "trend" or signal in _OF_ALL or signal in _PARTS or signal == _CENTRAL:
        # What runs out takes everything with it.
        return BlastRadius.WHOLE_SERVICE
    if signal.startswith(("dependency.", "cache.", "database.", "search.")):
        return BlastRadius.ONE_DEPENDENCY
    return BlastRadius.SOME_REQUESTS
