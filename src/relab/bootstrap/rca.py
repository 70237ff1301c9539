"""Builds the service of root cause analysis from the settings, and its job handlers."""

from __future__ import annotations

import functools
from collections.abc import Sequence

from relab.bootstrap.foundation import Foundation
from relab.jobs.models import Subscription
from relab.llm.gateway import LlmGateway, NullGateway
from relab.rca.handlers import RcaHandlers
from relab.rca.service import ANALYZE_JOB, RcaService, RuleBook
from relab.telemetry.service import DELETED_JOB, TelemetryService


def build_rca(base: Foundation, telemetry: TelemetryService, gateway: LlmGateway) -> RcaService:
    """Return the service of root cause analysis.

    It reads runs from `telemetry`. If `gateway` has a model, the model formulates the summaries of reports.
    """
    rules = RuleBook(base.settings.rca.rules or base.settings.home / "rules.yaml")
    word = None
    if not isinstance(gateway, NullGateway):
        from relab.rca.wording import word_summary

        word = functools.partial(word_summary, gateway=gateway)
    return RcaService(base.database, base.clock, base.queue, base.progress, telemetry, rules=rules, word=word)


def subscriptions(service: RcaService) -> Sequence[Subscription]:
    """Return the handlers of the jobs of root cause analysis."""
    handlers = RcaHandlers(service)
    return [
        Subscription(ANALYZE_JOB, handlers.analyze, handlers.analysis_parked),
        Subscription(DELETED_JOB, handlers.delete_for_runs),
    ]
