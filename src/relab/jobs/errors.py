"""Errors of the job queue."""

from __future__ import annotations

from relab.core.errors import ConflictError, NotFoundError, RelabError, UnavailableError


class JobNotFoundError(NotFoundError):
    """No job has this id."""

    code = "job_not_found"

    def __init__(self, job_id: str) -> None:
        super().__init__(f"There is no job {job_id!r}.", remedy="`lab jobs list` shows those there are.")


class JobStateError(ConflictError):
    """The job is not in a state in which this can be done to it."""

    code = "job_state"


class PermanentJobError(RelabError):
    """The work can never succeed: park the job at once instead of trying again."""

    code = "job_permanent"


class UnknownHandlerError(RelabError):
    """No handler has the job's name: this worker is older or newer than who enqueued it."""

    code = "job_handler_unknown"


class BrokerUnavailableError(UnavailableError):
    """Redis cannot be reached. Jobs stay in the database and start when it is back."""

    code = "broker_unavailable"
