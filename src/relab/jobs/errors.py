"""Errors of the job queue."""

from __future__ import annotations

from relab.core.errors import ConflictError, NotFoundError, RelabError, UnavailableError


class JobNotFoundError(NotFoundError):
    """No job has this id."""

    code = "job_not_found"

    def __init__(self, job_id: str) -> None:
        super().__init__(f"There is no job {job_id!r}.", remedy="`lab jobs list` shows the jobs.")


class JobStateError(ConflictError):
    """The job's status does not allow the operation.

    Only a parked job (one that failed permanently) can be retried. A running job cannot be dropped.
    """

    code = "job_state"


class PermanentJobError(RelabError):
    """The job can never succeed. A handler raises this, so that the runner parks the job at once without retries."""

    code = "job_permanent"


class JobTimeoutError(RelabError):
    """The job ran longer than the time limit of its lane (urgency). The job is retried if it has attempts left."""

    code = "job_timed_out"


class UnknownHandlerError(RelabError):
    """This worker has no handler for the job. Usually an older or newer version of relab enqueued the job."""

    code = "job_handler_unknown"


class JobListenerError(RelabError):
    """A person dropped a pending job, but a service that waits for the job could not be notified.

    The job is deleted even so. The service may still show its work as queued, for example an analysis.
    """

    code = "job_listener_failed"


class BrokerUnavailableError(UnavailableError):
    """Redis cannot be reached. Jobs stay in the database and start when Redis is available again."""

    code = "broker_unavailable"
