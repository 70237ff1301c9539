"""Convert notices to events of PagerDuty's Events API v2. Pure.

https://developer.pagerduty.com/docs/events-api-v2-overview. Each incident has one alert in PagerDuty. The alert's
`dedup_key` is the incident's id. If a person rejects a plan, and so takes over the incident, the alert is acknowledged.
The responder's own actions never acknowledge an alert: for an acknowledged alert, PagerDuty would not call people again
if the responder failed later.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final

from pydantic import SecretStr

from relab.core.clock import format_time
from relab.incidents.models import Severity
from relab.incidents.notices.message_text import harmless
from relab.incidents.notices.models import Notice, NoticeKind
from relab.incidents.notices.receivers import Receiver

_MAX_SUMMARY: Final = 1_000
"""PagerDuty rejects more than 1,024 characters."""
_MAX_SOURCE: Final = 200
_MAX_DETAIL: Final = 1_000
_ORDER: Final = list(Severity)
_MIN_SEVERITY_FOR_PERSON: Final = Severity.DEGRADED
_SEVERITIES: Final = {Severity.WARNING: "warning", Severity.DEGRADED: "error", Severity.CRITICAL: "critical"}


class PageTrigger(StrEnum):
    """When an incident triggers an alert in PagerDuty: when it opens, or only when a person has to act."""

    OPENED = "opened"
    PERSON_NEEDED = "person_needed"
    """An alert is triggered when a person has to act: an incident that the responder resolves alone wakes no person."""


@dataclass(frozen=True, slots=True)
class PagerDutyOptions:
    """The channel to PagerDuty.

    Attributes:
        pagerduty_routing_key: the key of a PagerDuty integration for the Events API v2; None: no notices to PagerDuty.
        pagerduty_url: the address of PagerDuty that receives the events.
        page_on: when an incident triggers an alert in PagerDuty, as a value of `PageTrigger`.
    """

    pagerduty_routing_key: SecretStr | None
    pagerduty_url: str
    page_on: str

    def receiver(self) -> Receiver | None:
        """Return the integration as a receiver; None if no routing key is set."""
        key, page_on = self.pagerduty_routing_key, PageTrigger(self.page_on)
        if key is None:
            return None

        def compose(notice: Notice) -> dict[str, Any] | None:
            return event_of(notice, key.get_secret_value(), page_on)

        return Receiver(
            "pagerduty", "RELAB_NOTICES__PAGERDUTY_URL", SecretStr(self.pagerduty_url), compose, secrets=(key,)
        )


OPTIONS: Final = PagerDutyOptions


def event_of(notice: Notice, routing_key: str, page_on: PageTrigger) -> dict[str, Any] | None:
    """Return the body of the request to PagerDuty for a notice; None if PagerDuty does not get the notice.

    Args:
        notice: the notice.
        routing_key: the key of the integration in PagerDuty.
        page_on: whether every opened incident triggers an alert, or only an incident that needs a person.
    """
    if notice.is_over:
        return _event("resolve", notice, routing_key)
    if notice.is_stale:
        # The incident is over, so nobody needs to be called.
        return None
    if notice.is_taken:
        return _event("acknowledge", notice, routing_key)
    is_opening = notice.kind is NoticeKind.OPENED and page_on is PageTrigger.OPENED
    if not notice.wants_person and not is_opening:
        return None
    details: dict[str, str] = {}
    for name, text in (*notice.details, *(("Answer by one of", each) for each in notice.commands)):
        said = text if text in notice.commands else harmless(text, _MAX_DETAIL)
        details[name] = f"{details[name]} | {said}" if name in details else said
    return {
        **_event("trigger", notice, routing_key),
        "payload": {
            "summary": harmless(f"{notice.title}: {notice.target}: {notice.headline}", _MAX_SUMMARY),
            "source": harmless(notice.target, _MAX_SOURCE),
            # If a person has to act, raise the severity, so that PagerDuty does not wait until morning.
            "severity": _SEVERITIES[max(notice.severity, _MIN_SEVERITY_FOR_PERSON, key=_ORDER.index)]
            if notice.wants_person
            else _SEVERITIES[notice.severity],
            "timestamp": format_time(notice.at_us),
            "component": harmless(notice.target, _MAX_SOURCE),
            "class": notice.kind.value,
            "custom_details": {**details, **_identity(notice)},
        },
        "client": "relab",
        **({} if notice.url is None else {"client_url": notice.url}),
    }


def _identity(notice: Notice) -> dict[str, str | int]:
    if notice.kind is NoticeKind.POSTED:
        return {"topic": notice.incident_id}
    return {"incident": notice.incident_id, "event": notice.seq}


def _event(action: str, notice: Notice, routing_key: str) -> dict[str, Any]:
    return {"routing_key": routing_key, "event_action": action, "dedup_key": notice.incident_id}
