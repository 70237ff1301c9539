"""Builds the service of rollouts from the settings, and its job handlers."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from threading import Event
from typing import TYPE_CHECKING

from relab.bootstrap.foundation import Foundation
from relab.flags.service import FlagService
from relab.jobs.models import Subscription
from relab.rollouts.handlers import RolloutHandlers
from relab.rollouts.models import EXECUTE_JOB
from relab.telemetry.service import TelemetryService

if TYPE_CHECKING:
    from relab.experiments.service import ExperimentService
    from relab.llm import LlmGateway
    from relab.rollouts.service import RolloutService


def build_rollouts(
    base: Foundation,
    flags: FlagService,
    telemetry: TelemetryService,
    experiments: Callable[[], ExperimentService],
    gateway: Callable[[], LlmGateway],
) -> RolloutService:
    """Return the service of rollouts: it measures changes of feature flags, and applies a change that passes.

    Args:
        base: the database, clock, queue and settings of the process.
        flags: the service that stores relab's own feature flags.
        telemetry: stores each rollout as an agent run.
        experiments: returns the service of experiments; it is called only when a rollout needs this service.
        gateway: returns the gateway to the language model; it is called only when a rollout needs the model.
    """
    from relab.rollouts.service import RolloutService

    return RolloutService(
        base.database,
        base.clock,
        base.queue,
        base.progress,
        flags,
        telemetry,
        experiments=experiments,
        gateway=gateway,
        home=base.settings.home / "rollouts",
        environment=os.environ,
        allowed_hosts=base.settings.rollouts.allowed_hosts,
    )


def subscriptions(service: Callable[[], RolloutService], worker_stop: Callable[[], Event]) -> Sequence[Subscription]:
    """Return the job handlers of rollouts: for each job name, the function that a worker calls.

    `service` returns the service of rollouts; it is called only when the first job runs. `worker_stop` returns the event
    that is set when the worker stops; it is called when a job begins.
    """
    handlers = RolloutHandlers(service, worker_stop)
    return [Subscription(EXECUTE_JOB, handlers.execute, handlers.execution_parked)]
