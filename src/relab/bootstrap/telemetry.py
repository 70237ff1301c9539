"""Builds the service of agent runs from the settings, and its job handlers."""

from __future__ import annotations

from collections.abc import Sequence

from relab.bootstrap.foundation import Foundation
from relab.jobs.models import Subscription
from relab.telemetry.service import BEHAVIOURS_JOB, LABEL_JOB, REMAP_JOB, TelemetryService


def build_telemetry(base: Foundation) -> TelemetryService:
    """Return the service that stores and searches agent runs and their spans.

    `base` has the database, clock and settings of the process.
    """
    return TelemetryService(base.database, base.clock, base.queue, prices_folder=base.settings.home)


def subscriptions(service: TelemetryService) -> Sequence[Subscription]:
    """Return the job handlers of telemetry: for each job name, the function that a worker calls."""
    from relab.telemetry.handlers import TelemetryHandlers

    handlers = TelemetryHandlers(service)
    return [
        Subscription(LABEL_JOB, handlers.label),
        Subscription(BEHAVIOURS_JOB, handlers.mark_behaviours),
        Subscription(REMAP_JOB, handlers.remap),
    ]
