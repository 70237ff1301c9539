"""Builds the service of rollouts from the settings, and its job handlers."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from relab.bootstrap.foundation import Foundation
from relab.flags.service import FlagService
from relab.jobs.models import Subscription
from relab.rollouts.handlers import RolloutHandlers
from relab.rollouts.models import EXECUTE_JOB
from relab.telemetry.service import TelemetryService

if TYPE_CHECKING:
    from relab.rollouts.service import RolloutService


def build_rollouts(base: Foundation, flags: FlagService, telemetry: TelemetryService) -> RolloutService:
    """Return the service of rollouts, which changes `flags` and stores each rollout as an agent run in `telemetry`."""
    from relab.rollouts.service import RolloutService

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


def subscriptions(service: Callable[[], RolloutService]) -> Sequence[Subscription]:
    """Return the handlers of the jobs of rollouts; the first job calls `service`, which returns the service."""
    handlers = RolloutHandlers(service)
    return [Subscription(EXECUTE_JOB, handlers.execute, handlers.execution_parked)]
