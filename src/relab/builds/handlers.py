"""The functions that a worker calls for jobs of the context `builds`: they train a policy of the optimizer."""

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
    """The functions that a worker calls to run jobs that train the policy `dqn` on simulated builds.

    Args:
        training: returns the training service; it is called only when a job runs.
    """

    def __init__(self, training: Callable[[], TrainingService]) -> None:
        self._training = training

    def train(self, args: Mapping[str, Any]) -> None:
        """Train the policy `dqn`, a neural network that chooses build actions.

        `args` has `training_id` and the fields of a `TrainingRequest`.

        An error of the training itself (`RelabError`) is stored with the training, and is not raised.

        Raises:
            DatabaseUnavailableError: the database is unavailable; the worker retries the job.
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
        """Mark a training as failed, with the message `error`, because its job will not be run again."""
        self._training().fail(job.args["training_id"], error)
