"""Convert notifications of Alertmanager, of Grafana, and of other senders with the same fields. Pure functions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from relab.core.clock import ReportedTime
from relab.core.errors import InvalidInputError
from relab.core.json import digest
from relab.core.validation import plain_message
from relab.incidents.models import Anomaly, Severity
from relab.incidents.storage.models import ReceivedAlert
from relab.incidents.storage.text_limits import cut

MAX_ALERTS: Final = 1_000
"""How many alerts of one notification are stored.

The others are dropped, because Alertmanager never resends a rejected one.
"""
_MAX_PROBLEMS: Final = 20
_MAX_MESSAGE_LENGTH: Final = 250
"""The maximum length of an alert's text in a title that also has a count."""
_SEVERITIES: Final = {
    "critical": Severity.CRITICAL,
    "page": Severity.CRITICAL,
    "error": Severity.DEGRADED,
    "major": Severity.DEGRADED,
    "warning": Severity.WARNING,
    "info": Severity.WARNING,
    "none": Severity.WARNING,
}
_EARLIEST: Final = datetime(1970, 1, 1, tzinfo=UTC)
_LATEST: Final = datetime(2199, 12, 31, 23, 59, 59, 999_999, tzinfo=UTC)

# No length limit here: the code that stores the values truncates them.
Words = dict[str, str]


class InvalidAlertsError(InvalidInputError):
    """The body of a request is not a valid notification of Alertmanager."""

    code = "invalid_alerts"


class _Sent(BaseModel):
    # Later versions of Alertmanager may send more fields.
    model_config = ConfigDict(extra="ignore", frozen=True)


class SentAlert(_Sent):
    """One alert of a notification, as Alertmanager sends it."""

    status: Literal["firing", "resolved"]
    labels: Words = {}
    annotations: Words = {}
    starts_at: ReportedTime | None = Field(
        None,
        alias="startsAt",
        description="When the alert began. Without it, a firing alert repeats the firing alert with its fingerprint, "
        "or begins on arrival; a resolved alert ends all firing alerts with its fingerprint.",
    )
    fingerprint: str = Field("", description="A hash of its labels; alerts without one are identified by their labels.")

    @field_validator("starts_at", mode="before")
    @classmethod
    def _begin(cls, value: object) -> object:
        """Return the start time of an alert for validation; a time out of range becomes the nearest time in range.

        An empty text becomes None. A time out of range is not rejected: Alertmanager does not send a rejected
        notification again, so all alerts of its group would be lost.
        """
        if not isinstance(value, str):
            return value
        try:
            moment = datetime.fromisoformat(value)
        except ValueError:
            return value or None
        moment = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
        return value if _EARLIEST <= moment <= _LATEST else max(_EARLIEST, min(moment, _LATEST)).isoformat()


class AlertNotification(_Sent):
    """A notification about a group of alerts, as the webhooks of Alertmanager and Grafana send it.

    The field `version` is ignored: Alertmanager sends 4 and Grafana 1, but their other fields are the same.
    """

    group_key: str = Field(alias="groupKey", min_length=1)
    group_labels: Words = Field({}, alias="groupLabels")
    common_labels: Words = Field({}, alias="commonLabels")
    common_annotations: Words = Field({}, alias="commonAnnotations")
    alerts: list[SentAlert] = Field(
        description=f"If there are more than {MAX_ALERTS:,} alerts, the firing ones are read first."
    )
    truncated_alerts: int = Field(
        0, alias="truncatedAlerts", ge=0, le=2**64 - 1, description="The number of alerts that `max_alerts` left out."
    )


@dataclass(frozen=True, slots=True)
class Notified:
    """A notification of Alertmanager, converted for the responder.

    Attributes:
        group_key: the key of the group of alerts, as Alertmanager sent it.
        title: the title of the incident that the notification opens.
        severity: the highest severity of the firing alerts; `WARNING` if no alert is firing.
        alerts: the alerts; the firing ones come first.
        left_out: the number of alerts in the group that are not in `alerts`.
    """

    group_key: str
    title: str
    severity: Severity
    alerts: tuple[ReceivedAlert, ...]
    left_out: int = 0


def read_notification(document: Any) -> Notified:
    """Convert the JSON of a notification of Alertmanager, or of a sender with the same fields.

    Raises:
        InvalidAlertsError: the document is not valid; the error lists the invalid fields.
    """
    try:
        sent = AlertNotification.model_validate(document)
    except ValidationError as error:
        problems = tuple(
            (".".join(str(part) for part in item["loc"]) or "body", plain_message(item["msg"]))
            for item in error.errors(include_url=False, include_input=False)
        )
        field, message = problems[0]
        raise InvalidAlertsError(
            f"The notification is not valid: {field}: {message}.",
            problems=problems[:_MAX_PROBLEMS],
            remedy="Send what the webhook of Alertmanager or Grafana sends, or the fields that docs/alerts.md lists for "
            "other senders.",
        ) from error
    # Sorting is stable, so alerts with the same status keep their order.
    kept = sorted(sent.alerts, key=lambda alert: alert.status != "firing")[:MAX_ALERTS]
    alerts = tuple(_received(alert) for alert in kept)
    left_out = sent.truncated_alerts + len(sent.alerts) - len(kept)
    firing = [alert.anomaly for alert in alerts if alert.is_firing]
    worst = max((anomaly.severity for anomaly in firing), key=list(Severity).index, default=Severity.WARNING)
    return Notified(sent.group_key, _title(sent, firing, left_out), worst, alerts, left_out)


def _title(sent: AlertNotification, firing: Sequence[Anomaly], left_out: int) -> str:
    """Return the title of the incident that a notification opens.

    The title is the first of these texts that exists: the summary that all alerts have in common, the text of the first
    alert in `firing`, the name of the alerts. The title ends with the number of alerts that it does not cover, if any:
    the `left_out` alerts and, without a common summary, all alerts in `firing` except the first.
    """
    common = sent.common_annotations.get("summary")
    more = left_out if common else left_out + max(len(firing) - 1, 0)
    named = {**sent.group_labels, **sent.common_labels}.get("alertname")
    title = common or (firing[0].detail if firing else "") or named or "An alert"
    return f"{cut(title, _MAX_MESSAGE_LENGTH)} (and {more:,} more)" if more else title


def _received(alert: SentAlert) -> ReceivedAlert:
    name = alert.labels.get("alertname", "")
    said = alert.annotations.get("summary") or alert.annotations.get("description") or name or "An alert"
    severity = _SEVERITIES.get(alert.labels.get("severity", "").strip().lower(), Severity.DEGRADED)
    return ReceivedAlert(
        fingerprint=alert.fingerprint or digest(alert.labels),
        starts_at_us=alert.starts_at,
        is_firing=alert.status == "firing",
        anomaly=Anomaly("alert", f"alert.{name}" if name else "alert", severity, None, None, said),
        content={"labels": alert.labels, "annotations": alert.annotations},
    )
