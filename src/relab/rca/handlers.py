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
        """Run the analysis `rca_run_id`; only log if the analysis was deleted together with its run."""
        try:
            self._service.analyze(args["rca_run_id"])
        except RcaRunNotFoundError as error:
            _log.info("rca_run_deleted", error=str(error))

    def analysis_parked(self, job: Job, error: str) -> None:
        """Mark the analysis of a permanently failed job as failed, with `error` as the reason."""
        self._service.fail(job.args["rca_run_id"], error)

    def delete_for_runs(self, args: Mapping[str, Any]) -> None:
        """Delete the analyses of the deleted runs `run_ids` (or of `run_id` alone) that were requested up to `deleted_at`."""
        run_ids = args["run_ids"] if "run_ids" in args else [args["run_id"]]
        self._service.delete_for_runs(run_ids, args["deleted_at"])
