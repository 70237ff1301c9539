"""Job handlers of builds; each calls one use case with the arguments of a job."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from relab.builds.training.jobs import TRAIN_JOB
from relab.core.errors import RelabError
from relab.jobs.models import Job
from relab.storage.errors import DatabaseUnavailableError

if TYPE_CHECKING:
    from relab.builds.training.service import TrainingService


__all__ = ["TRAIN_JOB", "BuildHandlers"]


class BuildHandlers:
    """The functions that a worker calls for the jobs of builds.

    Args:
        training: returns the training service, which is created for the first job.
    """

    def __init__(self, training: Callable[[], TrainingService]) -> None:
        self._training = training

    def train(self, args: Mapping[str, Any]) -> None:
        """Train the policy `dqn`, a neural network that chooses build actions.

        `args` has `training_id` and the fields of a `TrainingRequest`.

        If the database is unavailable, the error is raised so that the worker retries the job. Any other `RelabError`
        is stored as the error of the training, and is not raised.
        """
        from relab.builds.training.models import TrainingRequest

        service, training_id = self._training(), args["training_id"]
        request = TrainingRequest(builds=args["builds"], seed=args["seed"])
        try:
            service.train(training_id, request)
        except DatabaseUnavailableError:
            raise
        except RelabError as error:
            service.fail(training_id, str(error))

    def training_parked(self, job: Job, error: str) -> None:
        """Mark a training as failed, with the message `error`. Called when its job is not retried any more."""
        self._training().fail(job.args["training_id"], error)
