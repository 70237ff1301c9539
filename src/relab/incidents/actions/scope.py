"""Compute how many users notice an incident. Pure functions.

An action that more users would notice than the incident itself needs a person's approval.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from relab.incidents.actions.catalogue import UserImpact
from relab.incidents.models import POLL_LATENCY, Anomaly, Snapshot

_PARTS: Final = frozenset(("health", "metrics"))
_OF_ALL: Final = frozenset(
    ("errors.pct", "latency.p95_ms", "pool", "health", "traffic.shed", "pool.timeouts", POLL_LATENCY)
)
"""Signals that describe the service as a whole."""
_CENTRAL: Final = "dependency.database"
"""No route answers without the database."""


def scope_of(anomalies: Iterable[Anomaly], snapshot: Snapshot) -> UserImpact:
    """Return how many users notice an incident: the largest impact among its anomalies and its last poll.

    Args:
        anomalies: the confirmed anomalies of the incident.
        snapshot: the last poll. If its health or its metrics are absent, the whole service counts as affected.
    """
    scopes = [_scope(anomaly) for anomaly in anomalies]
    if _PARTS & snapshot.absent.keys():
        scopes.append(UserImpact.WHOLE_SERVICE)
    order = list(UserImpact)
    return max(scopes, key=order.index, default=UserImpact.NONE)


def _scope(anomaly: Anomaly) -> UserImpact:
    signal = anomaly.signal
    if not anomaly.opens:
        return UserImpact.NONE
    if anomaly.detector == "trend" or signal in _OF_ALL or signal in _PARTS or signal == _CENTRAL:
        # A resource that runs out stops the whole service.
        return UserImpact.WHOLE_SERVICE
    if signal.startswith(("dependency.", "cache.", "database.", "search.")):
        return UserImpact.ONE_DEPENDENCY
    return UserImpact.SOME_REQUESTS
