"""Notifications of Prometheus' Alertmanager (webhook version 4) as alerts of ours. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, Final, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from relab.core.clock import ReportedTime
from relab.core.errors import InvalidInputError
from relab.core.json import digest
from relab.incidents.models import Anomaly, Severity
from relab.incidents.storage.models import ReceivedAlert

MOST_ALERTS: Final = 1_000
_MOST_PROBLEMS: Final = 20
_SEVERITIES: Final = {
    "critical": Severity.CRITICAL,
    "page": Severity.CRITICAL,
    "error": Severity.DEGRADED,
    "major": Severity.DEGRADED,
    "warning": Severity.WARNING,
    "info": Severity.WARNING,
}
_NO_TIME: Final = "0001-01-01T00:00:00Z"
_EARLIEST: Final = "1970-01-01T00:00:00Z"

Words = dict[str, Annotated[str, Field(max_length=10_000)]]


class InvalidAlertsError(InvalidInputError):
    """It is no notification that could be taken in."""

    code = "invalid_alerts"


class _Sent(BaseModel):
    # Later versions of the sender may say more.
    model_config = ConfigDict(extra="ignore", frozen=True)


class SentAlert(_Sent):
    """One alert of a notification."""

    status: Literal["firing", "resolved"]
    labels: Words = {}
    annotations: Words = {}
    starts_at: ReportedTime = Field(alias="startsAt")
    fingerprint: str = Field("", max_length=200, description="Of its labels; told from others by these if it has none.")

    @field_validator("starts_at", mode="before")
    @classmethod
    def _begin(cls, value: object) -> object:
        """Take the sender's `no time` for the earliest one."""
        return _EARLIEST if value == _NO_TIME else value


class AlertNotification(_Sent):
    """What Alertmanager posts for a group of alerts."""

    version: Literal["4"]
    group_key: str = Field(alias="groupKey", min_length=1, max_length=10_000)
    group_labels: Words = Field({}, alias="groupLabels")
    common_labels: Words = Field({}, alias="commonLabels")
    common_annotations: Words = Field({}, alias="commonAnnotations")
    alerts: list[SentAlert] = Field(max_length=MOST_ALERTS)


@dataclass(frozen=True, slots=True)
class Notified:
    """A notification, read.

    Attributes:
        title: of an incident that it opens.
        severity: the worst of its firing alerts.
    """

    group_key: str
    title: str
    severity: Severity
    alerts: tuple[ReceivedAlert, ...]


def read_notification(document: Any) -> Notified:
    """Read the JSON of a notification.

    Raises:
        InvalidAlertsError: names every field at fault.
    """
    try:
        sent = AlertNotification.model_validate(document)
    except ValidationError as error:
        problems = tuple(
            (".".join(str(part) for part in item["loc"]) or "body", item["msg"])
            for item in error.errors(include_url=False, include_input=False)
        )
        field, message = problems[0]
        raise InvalidAlertsError(
            f"The notification is not valid: {field}: {message}.",
            problems=problems[:_MOST_PROBLEMS],
            remedy="Send what Alertmanager's webhook_config sends, version 4.",
        ) from error
    alerts = tuple(_received(alert) for alert in sent.alerts)
    firing = [alert.anomaly for alert in alerts if alert.is_firing]
    worst = max((anomaly.severity for anomaly in firing), key=list(Severity).index, default=Severity.WARNING)
    common = {**sent.group_labels, **sent.common_labels}
    title = sent.common_annotations.get("summary") or (firing[0].detail if firing else "") or common.get("alertname")
    return Notified(sent.group_key, title or "An alert", worst, alerts)


def _received(alert: SentAlert) -> ReceivedAlert:
    name = alert.labels.get("alertname", "")
    said = alert.annotations.get("summary") or alert.annotations.get("description") or name or "An alert"
    severity = _SEVERITIES.get(alert.labels.get("severity", "").lower(), Severity.DEGRADED)
    return ReceivedAlert(
        fingerprint=alert.fingerprint or digest(alert.labels),
        starts_at_us=alert.starts_at,
        is_firing=alert.status == "firing",
        anomaly=Anomaly("alert", f"alert.{name}" if name else "alert", severity, None, None, said),
        content={"labels": alert.labels, "annotations": alert.annotations},
    )
