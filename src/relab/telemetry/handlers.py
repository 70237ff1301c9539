"""Job handlers of telemetry: effects of other contexts on agent runs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from relab.telemetry.service import TelemetryService


class TelemetryHandlers:
    """What the worker calls for the jobs of this context."""

    def __init__(self, service: TelemetryService) -> None:
        self._service = service

    def label(self, args: Mapping[str, Any]) -> None:
        """Note the cause `category` for the run `run_id`, unless its content has changed since."""
        self._service.label(args["run_id"], args["content_hash"], args["category"])
