"""Job handlers of telemetry: they change stored agent runs when other parts of relab request it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from relab.telemetry.service import TelemetryService


class TelemetryHandlers:
    """The functions that run the jobs of `relab.telemetry`."""

    def __init__(self, service: TelemetryService) -> None:
        self._service = service

    def remap(self, args: Mapping[str, Any]) -> None:
        """Recompute up to 2,000 runs that an older version of relab computed, oldest first, in at most 20 transactions.

        After the 20th transaction, a job is enqueued that continues.

        Args:
            args: may have `after`, the `[start in microseconds since 1970, run id]` of the last run of an earlier job.
                Without it, the job begins with the oldest run.
        """
        after = args.get("after")
        self._service.remap_in_background((after[0], after[1]) if after else None)

    def label(self, args: Mapping[str, Any]) -> None:
        """Store the failure category that an analysis found in a run, unless the run's content has changed since then.

        `args` has `run_id`, `content_hash` (the hash of the analysed content), `category` and `confidence`.
        """
        self._service.marks.label(args["run_id"], args["content_hash"], args["category"], args.get("confidence"))

    def mark_behaviours(self, args: Mapping[str, Any]) -> None:
        """Store which behaviours a search found in a run, unless the run's content has changed since the search.

        A behaviour is a pattern in runs that a rule describes.

        `args` has `run_id`, `content_hash` (the hash of the searched content), `behaviours` (the names that were found)
        and `kept` (names that this search did not cover; their stored results stay).
        """
        self._service.marks.set_behaviours(
            args["run_id"], args["content_hash"], args["behaviours"], kept=args.get("kept", ())
        )
