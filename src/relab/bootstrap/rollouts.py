"""Builds the service of rollouts from the settings, and its job handlers."""

from __future__ import annotations

import os
from collections.abc import Sequence

from relab.bootstrap.foundation import Foundation
from relab.flags.service import FlagService
from relab.jobs.models import Subscription
from relab.rollouts.handlers import RolloutHandlers
from relab.rollouts.service import EXECUTE_JOB, RolloutService
from relab.telemetry.service import TelemetryService


def build_rollouts(base: Foundation, flags: FlagService, telemetry: TelemetryService) -> RolloutService:
    """Return the service of rollouts."""
    return RolloutService(
        base.database,
        base.clock,
        base.queue,
        base.progress,
        flags,
        telemetry,
        home=base.settings.home / "rollouts",
        environment=os.environ,
    )


def subscriptions(service: RolloutService) -> Sequence[Subscription]:
    """Return the handlers of the jobs of rollouts."""
    handlers = RolloutHandlers(service)
    return [Subscription(EXECUTE_JOB, handlers.execute, handlers.execution_parked)]
