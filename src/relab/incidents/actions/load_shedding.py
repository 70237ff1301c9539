"""Copy a poll, and remove its rejected requests or the target's own health status from the copy. Pure functions."""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from relab.incidents.models import Snapshot

ERRORS: Final = "errors.pct"
P95: Final = "latency.p95_ms"
REQUESTS: Final = "traffic.requests"
SHED: Final = "traffic.shed"


def without_shed_requests(poll: Snapshot) -> Snapshot:
    """Return a copy of a poll whose share of errors does not include requests that were rejected to shed load.

    If requests were rejected, the copy has no health status of the target, because this status counts them as errors.
    """
    requests, errors = poll.numbers.get(REQUESTS, 0.0), poll.numbers.get(ERRORS)
    if not requests or errors is None or not poll.numbers.get(SHED):
        return poll
    left = max(errors - 100 * poll.numbers[SHED] / requests, 0.0)
    # The health status covers the rejected requests, too.
    return without_health_status(replace(poll, numbers={**poll.numbers, ERRORS: left}))


def without_health_status(poll: Snapshot) -> Snapshot:
    """Return a copy of a poll without the health status that the target reports about itself.

    Use it where only measured figures count, because the target may call itself unhealthy while users are served well.
    """
    return replace(poll, words={name: word for name, word in poll.words.items() if name != "health"})
