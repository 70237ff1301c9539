"""Job handlers of telemetry: changes of agent runs that other contexts request."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from relab.telemetry.service import TelemetryService


class TelemetryHandlers:
    """The handlers that a worker calls for the jobs of this context."""

    def __init__(self, service: TelemetryService) -> None:
        self._service = service

    def remap(self, args: Mapping[str, Any]) -> None:
        """Remap a limited number of outdated runs, oldest first, and enqueue a job for the rest.

        The job's argument `after`, if given, is `[start, run id]` of the run after which to continue; the start is in
        microseconds since 1970.
        """
        after = args.get("after")
        self._service.remap_in_background((after[0], after[1]) if after else None)

    def label(self, args: Mapping[str, Any]) -> None:
        """Set the category of a run, unless its content has changed since the analysis.

        The job's arguments are `run_id`, `content_hash`, `category` and `confidence`, those of `RunMarks.label`.
        """
        self._service.marks.label(args["run_id"], args["content_hash"], args["category"], args.get("confidence"))

    def mark_behaviours(self, args: Mapping[str, Any]) -> None:
        """Store which behaviours a run shows, unless its content has changed since.

        The job's arguments are `run_id`, `content_hash`, `behaviours`, a list of names, and `kept`, those whose earlier marks stay.
        """
        self._service.marks.set_behaviours(
            args["run_id"], args["content_hash"], args["behaviours"], kept=args.get("kept", ())
        )
