"""Job handlers of root cause analysis; each calls one use case with the arguments of a job."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from relab.core.logging import get_logger
from relab.jobs.models import Job
from relab.rca.errors import RcaRunNotFoundError
from relab.rca.service import RcaService

_log = get_logger(__name__)


class RcaHandlers:
    """The functions that a worker calls for the jobs of root cause analysis."""

    def __init__(self, service: RcaService) -> None:
        self._service = service

    def analyze(self, args: Mapping[str, Any]) -> None:
        """Run the analysis with the id `args["rca_run_id"]`. If it was deleted together with its run, only log this."""
        try:
            self._service.analyze(args["rca_run_id"])
        except RcaRunNotFoundError as error:
            _log.info("rca_run_deleted", error=str(error))

    def search(self, args: Mapping[str, Any]) -> None:
        """Search new runs for behaviours (patterns that rules describe), and store the results.

        Runs that changed within the last `args["quiet_s"]` seconds are left for a later job.
        """
        self._service.arrivals.search(float(args["quiet_s"]))

    def analysis_parked(self, job: Job, error: str) -> None:
        """Mark an analysis as failed, with the reason `error`, because its job failed permanently."""
        self._service.fail(job.args["rca_run_id"], error)

    def delete_for_runs(self, args: Mapping[str, Any]) -> None:
        """Delete the analyses and labels of deleted runs, except those that were created after the deletion.

        `args` has `run_ids` (or a single `run_id`), and the time `deleted_at` in microseconds since 1970.
        """
        run_ids = args["run_ids"] if "run_ids" in args else [args["run_id"]]
        self._service.delete_for_runs(run_ids, args["deleted_at"])
