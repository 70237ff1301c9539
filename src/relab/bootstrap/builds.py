"""Creates the services that run builds, and train and promote their policies, from the settings; and job handlers."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final

from relab.bootstrap.foundation import Foundation
from relab.builds.handlers import TRAIN_JOB, BuildHandlers
from relab.flags.service import FlagService
from relab.jobs.models import Subscription

if TYPE_CHECKING:
    from relab.builds.promotion.service import PromotionService
    from relab.builds.service import BuildService
    from relab.builds.training.service import TrainingService
    from relab.telemetry.service import TelemetryService

_GB: Final = 1_073_741_824


def build_builds(base: Foundation, telemetry: TelemetryService) -> BuildService:
    """Return the service that runs, records and explains builds.

    The service keeps workspaces and caches in the folder `builds` of relab's home folder.

    Args:
        base: the database, clock and settings of the process.
        telemetry: stores each pass (a build and its retries) as an agent run.
    """
    from relab.builds.service import BuildService

    return BuildService(
        base.database,
        base.clock,
        telemetry,
        home=base.settings.home / "builds",
        environment=os.environ,
        models=_models(base),
        taught=base.settings.taught_failures,
        max_kept_bytes=int(base.settings.builds.max_kept_gb * _GB),
    )


def build_training(base: Foundation) -> TrainingService:
    """Return the service that trains the policy `dqn`, a neural network that chooses build actions.

    The network is trained on simulated builds. `base` has the database, clock and settings of the process.
    """
    from relab.builds.training.service import TrainingService

    return TrainingService(base.database, base.clock, base.queue, base.progress, models=_models(base))


def build_promotion(base: Foundation, flags: FlagService) -> PromotionService:
    """Return the service that decides which build policy each project uses; it stores the choice as a feature flag.

    Args:
        base: the database, clock and settings of the process.
        flags: the service of the feature flags.
    """
    from relab.builds.promotion.service import PromotionService

    return PromotionService(base.database, base.clock, flags, models=_models(base))


def subscriptions(training: Callable[[], TrainingService]) -> Sequence[Subscription]:
    """Return the job handlers of builds: for each job name, the function that a worker calls.

    `training` returns the service that trains policies; it is called only when the first job runs.
    """
    handlers = BuildHandlers(training)
    return [Subscription(TRAIN_JOB, handlers.train, handlers.training_parked)]


def _models(base: Foundation) -> Path:
    return base.settings.home / "build_models"
