"""Job handlers of rollouts; each calls one use case with the arguments of a job."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from threading import Event
from typing import TYPE_CHECKING, Any

from relab.core.errors import RelabError
from relab.core.logging import get_logger
from relab.jobs.models import Job
from relab.rollouts.errors import (
    EndNotStoredError,
    RolloutNotFoundError,
    TargetBusyError,
    TargetLeaseLostError,
    WorkerStoppingError,
)
from relab.rollouts.execution.halt import JobStop
from relab.storage.errors import DatabaseUnavailableError

if TYPE_CHECKING:
    from relab.rollouts.service import RolloutService

_log = get_logger(__name__)


class RolloutHandlers:
    """The functions that a worker calls for the jobs of rollouts.

    Args:
        service: builds the service of rollouts; called when the first job runs.
        worker_stop: returns the event that is set when the worker stops. A rollout can last for hours, so the worker
            does not finish it then: it restores the flags, and another worker continues the rollout.
    """

    def __init__(self, service: Callable[[], RolloutService], worker_stop: Callable[[], Event]) -> None:
        self._service = service
        self._worker_stop = worker_stop

    def execute(self, args: Mapping[str, Any]) -> None:
        """Execute or continue the rollout `args["rollout_id"]`.

        If the rollout does not exist, log a warning. After an error that is not listed below, mark the rollout as
        failed and do not raise the error.

        Raises:
            DatabaseUnavailableError: the database is unavailable; a retry of the job can succeed.
            EndNotStoredError: the new flags are in force, but this could not be stored or reported.
            TargetLeaseLostError: another process has taken over the rollout.
            WorkerStoppingError: the worker stops; a retry of the job continues the rollout.
            RelabError: the target is in use, or its flags must still be restored; a retry of the job can succeed.
        """
        service, rollout_id = self._service(), args["rollout_id"]
        try:
            service.execute(rollout_id, JobStop(self._worker_stop()))
        except (DatabaseUnavailableError, EndNotStoredError, TargetLeaseLostError, WorkerStoppingError):
            raise
        except RolloutNotFoundError as error:
            _log.warning("rollout_missing", rollout_id=rollout_id, error=str(error))
        except RelabError as error:
            if isinstance(error, TargetBusyError) or service.must_restore(rollout_id):
                service.publish_wait(rollout_id, error.message)
                raise
            # The job is not retried, because that would change the flags again. The rollout may not be marked as failed
            # yet.
            service.fail(rollout_id, str(error))
            _log.info("rollout_failed", rollout_id=rollout_id, error=str(error))

    def execution_parked(self, job: Job, error: str) -> None:
        """Mark the rollout of a parked job as failed, with the message `error`.

        A parked job has failed permanently: no worker retries it.
        """
        self._service().fail(job.args["rollout_id"], error)
