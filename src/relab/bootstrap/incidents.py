"""Builds the services of the incident responder and of its notifications from the settings."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from relab.bootstrap.foundation import Foundation
from relab.core.logging import get_logger
from relab.incidents.notices.service import DeliverySettings, NoticeOptions, NoticeService, channels_from
from relab.incidents.service import (
    AskWhen,
    Autonomy,
    IncidentService,
    ModelSettings,
    Policy,
    WatchedTarget,
    settings_for,
    target_name,
)
from relab.settings import Settings
from relab.telemetry.service import TelemetryService

if TYPE_CHECKING:
    from relab.knowledge.service import KnowledgeService
    from relab.llm import LlmGateway, MeteredGateway

_log = get_logger(__name__)


def build_incidents(
    base: Foundation,
    knowledge: Callable[[], KnowledgeService],
    telemetry: TelemetryService,
    gateway: Callable[[], LlmGateway],
) -> IncidentService:
    """Return the service of the incident responder.

    Invalid settings of the target or of the language model are reported only when the responder uses them.

    Args:
        base: the database, clock and settings of the process.
        knowledge: returns the runbooks and past incidents; called only if a target is watched, or an incident is
            closed or dismissed.
        telemetry: stores the work of the responder as agent runs.
        gateway: returns the gateway to the language model; called only if the responder may use the model.
    """
    return IncidentService(
        base.database,
        base.clock,
        base.signal,
        knowledge,
        telemetry,
        home=base.settings.home,
        watched=lambda: _watched(base.settings, gateway),
    )


def build_notices(base: Foundation, incidents: IncidentService) -> NoticeService:
    """Return the service that notifies people of incidents, and of behaviours that runs show.

    `base` has the database, clock and settings of the process.
    """
    return NoticeService(base.database, base.clock, incidents, _notice_settings(base.settings))


def _watched(settings: Settings, gateway: Callable[[], LlmGateway]) -> WatchedTarget | None:
    """Return the target that the incident responder watches, or None if no target URL is set.

    `gateway` returns the gateway to the language model; it is called only if the responder may use the model.
    """
    url, given = settings.watched_url, settings.incidents
    if url is None:
        return None
    # Called even if the settings give a name, because it rejects an invalid address.
    name = target_name(url)
    policy = Policy(
        autonomy=Autonomy(given.autonomy),
        autonomy_by_class={name: Autonomy(level) for name, level in given.autonomy_by_class.items()},
        max_actions_per_incident=given.max_actions_per_incident,
        max_actions_per_window=given.max_actions_per_window,
        max_actions_per_part=given.max_actions_per_part,
        action_window_s=given.action_window_s,
        cooldown_s=given.cooldown_s,
    )
    return WatchedTarget(
        name=given.target_name or name,
        url=url,
        actions_url=settings.action_server_url,
        token=settings.action_server_token,
        settings=settings_for(
            settings.poll_interval_seconds,
            policy=policy,
            critical_error_rate_pct=settings.anomaly_threshold_error_rate,
            use_incident_history=given.use_incident_history,
            model=ModelSettings(
                when=AskWhen(given.ask_model),
                max_calls=given.max_model_calls_per_incident,
                max_tokens=given.max_model_tokens_per_incident,
                max_total_s=given.max_model_time_per_incident_s,
                call_timeout_s=settings.llm.timeout_s,
                max_answer_tokens=settings.llm.max_completion_tokens,
            ),
        ),
        gateway=_second_opinion(settings, gateway),
    )


def _second_opinion(settings: Settings, gateway: Callable[[], LlmGateway]) -> MeteredGateway | None:
    """Return the gateway by which the responder asks the language model for a second opinion.

    Return None if no model is configured, or if the setting `ask_model` is `never`. `gateway` returns the gateway to
    the configured model; with `never`, it is not called.
    """
    if settings.incidents.ask_model == "never":
        return None
    from relab.llm import MeteredGateway, NullGateway

    model = gateway()
    if isinstance(model, NullGateway):
        _log.warning("model_not_configured", reason="RELAB_INCIDENTS__ASK_MODEL is set, and no model is configured.")
        return None
    return MeteredGateway(model)


def _notice_settings(settings: Settings) -> NoticeOptions:
    """Return the settings of notifications, such as the channels, and the people who may give commands in Slack."""
    given = settings.notices
    return NoticeOptions(
        channels=channels_from(dict(given)),
        public_url=given.public_url,
        slack_signing_secret=given.slack_signing_secret,
        slack_operators=frozenset(given.slack_operators),
        delivery=DeliverySettings(give_up_after_s=given.give_up_after_s),
    )
