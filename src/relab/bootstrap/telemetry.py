"""Telemetry, built from the settings, and its job handlers."""

from __future__ import annotations

from collections.abc import Mapping

from relab.bootstrap.foundation import Foundation
from relab.jobs.models import JobHandler
from relab.rca.service import LABEL_JOB
from relab.telemetry.handlers import TelemetryHandlers
from relab.telemetry.service import TelemetryService


def build_telemetry(base: Foundation) -> TelemetryService:
    """Return the service of agent runs."""
    return TelemetryService(base.database, base.clock, base.queue)


def handlers(service: TelemetryService) -> Mapping[str, JobHandler]:
    """Return the job handlers of this context by job name."""
    return {LABEL_JOB: TelemetryHandlers(service).label}
