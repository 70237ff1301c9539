"""The incident responder and its notifications, built from the settings."""

from __future__ import annotations

import structlog

from relab.bootstrap.foundation import Foundation
from relab.incidents.service import (
    AskWhen,
    Autonomy,
    IncidentService,
    ModelSettings,
    NoticeService,
    NoticeSettings,
    Pace,
    PageFrom,
    Policy,
    Watched,
    settings_for,
    target_name,
)
from relab.knowledge.service import KnowledgeService
from relab.llm import LlmGateway, MeteredGateway, NullGateway
from relab.settings import Settings
from relab.telemetry.service import TelemetryService

_log = structlog.get_logger(__name__)


def build_incidents(
    base: Foundation, knowledge: KnowledgeService, telemetry: TelemetryService, gateway: LlmGateway
) -> IncidentService:
    """Return the service of the incident responder."""
    return IncidentService(
        base.database,
        base.clock,
        base.signal,
        knowledge,
        telemetry,
        home=base.settings.home,
        watched=_watched(base.settings, gateway),
    )


def build_notices(base: Foundation, incidents: IncidentService) -> NoticeService:
    """Return the service that notifies people of incidents."""
    return NoticeService(base.database, base.clock, incidents, _notice_settings(base.settings))


def _watched(settings: Settings, gateway: LlmGateway) -> Watched | None:
    """Return the target that the incident responder watches, or None if no target URL is set."""
    url, given = settings.watched_url, settings.incidents
    if url is None:
        return None
    policy = Policy(
        autonomy=Autonomy(given.autonomy),
        autonomy_by_class={name: Autonomy(level) for name, level in given.autonomy_by_class.items()},
        most_in_incident=given.most_in_incident,
        most_in_window=given.most_in_window,
        most_on_target=given.most_on_target,
        window_s=given.window_s,
        cooldown_s=given.cooldown_s,
    )
    return Watched(
        name=given.target_name or target_name(url),
        url=url,
        actions_url=settings.action_server_url,
        token=settings.action_server_token,
        settings=settings_for(
            settings.poll_interval_seconds,
            policy=policy,
            error_rate_pct=settings.anomaly_threshold_error_rate,
            remembers=given.remembers,
            model=ModelSettings(
                when=AskWhen(given.ask_model),
                most_calls=given.model_most_calls,
                most_tokens=given.model_most_tokens,
                most_s=given.model_most_s,
                call_s=settings.llm.timeout_s,
            ),
        ),
        gateway=_second_opinion(settings, gateway),
    )


def _second_opinion(settings: Settings, gateway: LlmGateway) -> MeteredGateway | None:
    """Return the model that the responder may call, or None if no model is configured or `ask_model` is `never`.

    Data about a target is sent to a model only if the settings allow it.
    """
    if settings.incidents.ask_model == "never":
        return None
    if isinstance(gateway, NullGateway):
        _log.warning("incidents_without_model", reason="RELAB_INCIDENTS__ASK_MODEL is set, and no model is configured.")
        return None
    return MeteredGateway(gateway)


def _notice_settings(settings: Settings) -> NoticeSettings:
    """Return the settings of notifications: Slack and PagerDuty addresses, and the people who may answer in Slack."""
    given = settings.notices
    return NoticeSettings(
        slack_webhook_url=given.slack_webhook_url,
        pagerduty_routing_key=given.pagerduty_routing_key,
        pagerduty_url=given.pagerduty_url,
        page_from=PageFrom(given.page_from),
        public_url=given.public_url,
        slack_signing_secret=given.slack_signing_secret,
        slack_operators=frozenset(given.slack_operators),
        pace=Pace(give_up_after_s=given.give_up_after_s),
    )
