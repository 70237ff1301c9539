"""Notifications of alerts: reading valid ones, mapping their fields, and rejecting invalid ones."""

from __future__ import annotations

import contextlib
import copy
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relab.api.incidents import ALERTS_EXAMPLE
from relab.core.clock import parse_time
from relab.core.errors import ConfigurationError
from relab.incidents.alertmanager import InvalidAlertsError, read_notification
from relab.incidents.models import Severity
from relab.incidents.service import target_name


def notification(*alerts: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {**copy.deepcopy(ALERTS_EXAMPLE), "alerts": list(alerts), **more}


def alert(**more: Any) -> dict[str, Any]:
    return {**copy.deepcopy(ALERTS_EXAMPLE["alerts"][0]), **more}


def test_alert_has_its_summary_and_severity() -> None:
    found = read_notification(notification(alert(startsAt="2026-11-21T04:00:00.123456789+01:00")))

    (received,) = found.alerts
    assert found.title == "Checkout takes longer than 2 s."
    assert found.severity == Severity.CRITICAL
    assert received.starts_at_us == parse_time("2026-11-21T03:00:00.123456Z")
    assert received.is_firing is True
    assert received.anomaly.signal == "alert.CheckoutSlow"


@pytest.mark.parametrize(
    ("label", "severity"),
    [
        ("page", Severity.CRITICAL),
        ("CRITICAL ", Severity.CRITICAL),
        ("Warning", Severity.WARNING),
        ("sev-2", Severity.DEGRADED),
        ("", Severity.DEGRADED),
    ],
)
def test_foreign_severities_are_mapped(label: str, severity: Severity) -> None:
    assert read_notification(notification(alert(labels={"severity": label}))).severity is severity


def test_alerts_without_a_fingerprint_are_identified_by_their_labels() -> None:
    one, other, same = (
        read_notification(notification(alert(fingerprint="", labels={"pod": pod}))).alerts[0].fingerprint
        for pod in ("a", "b", "a")
    )

    assert one == same != other


def test_alert_that_ended_before_delivery_opens_no_incident() -> None:
    found = read_notification(notification(alert(status="resolved", startsAt="0001-01-01T00:00:00Z")))

    assert found.alerts[0].is_firing is False
    assert found.alerts[0].starts_at_us == 0
    assert found.severity == Severity.WARNING


@pytest.mark.parametrize(
    ("sent", "stored"),
    [
        ("1801-05-04T00:00:00Z", "1970-01-01T00:00:00Z"),
        ("0001-01-01T00:00:00+14:00", "1970-01-01T00:00:00Z"),
        # Without a zone, as in other times that clients report, it is UTC.
        ("1801-05-04T00:00:00", "1970-01-01T00:00:00Z"),
        # In UTC, still 1969 and already 2200.
        ("1970-01-01T00:00:00+01:00", "1970-01-01T00:00:00Z"),
        ("2199-12-31T23:59:59-05:00", "2199-12-31T23:59:59.999999Z"),
        ("2998-01-01T00:00:00.123456789+01:00", "2199-12-31T23:59:59.999999Z"),
        ("9999-12-31T23:59:59-12:00", "2199-12-31T23:59:59.999999Z"),
    ],
)
def test_time_that_cannot_be_stored_loses_no_alert_of_the_group(sent: str, stored: str) -> None:
    found = read_notification(notification(alert(startsAt=sent), alert()))

    assert [each.starts_at_us for each in found.alerts] == [parse_time(stored), parse_time(alert()["startsAt"])]


def test_notification_of_grafana_is_read() -> None:
    sent = alert(values={"B": 44.2}, valueString="[ var='B' ]", silenceURL="", dashboardURL="", panelURL="")
    body = notification(
        sent, version="1", orgId=1, title="[FIRING:1] CheckoutSlow", state="alerting", message="**Firing**"
    )

    found = read_notification(body)

    assert found == read_notification(notification(alert()))


def test_fields_of_other_senders_are_enough() -> None:
    body = {"groupKey": "uptime", "alerts": [{"status": "firing", "fingerprint": "7", "startsAt": ""}]}

    found = read_notification(body)

    assert (found.group_key, found.title) == ("uptime", "An alert")
    assert [(each.fingerprint, each.starts_at_us) for each in found.alerts] == [("7", None)]


def test_rejection_names_the_missing_fields_and_the_document_about_other_senders() -> None:
    with pytest.raises(InvalidAlertsError) as caught:
        read_notification({"event": {"event_type": "incident.triggered"}})

    assert [field for field, _ in caught.value.problems] == ["groupKey", "alerts"]
    assert "docs/alerts.md" in str(caught.value)


def test_first_firing_alerts_of_a_storm_are_accepted() -> None:
    over, firing = alert(status="resolved"), alert()
    storm = read_notification(notification(*[over] * 700, *[firing] * 700, truncatedAlerts=50, commonAnnotations={}))

    assert [each.is_firing for each in storm.alerts].count(True) == 700
    assert len(storm.alerts) == 1_000
    assert storm.left_out == 450
    assert storm.title == "Checkout takes longer than 2 s. (and 1,149 more)"


def test_common_annotations_describe_the_group() -> None:
    assert read_notification(notification(alert(), alert())).title == "Checkout takes longer than 2 s."


def test_notification_with_long_text_is_accepted() -> None:
    long = "x" * 50_000
    found = read_notification(
        notification(alert(annotations={"description": long}, labels={long: long}), groupKey=long)
    )

    assert found.group_key == long
    assert found.alerts[0].anomaly.detail == long


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=10), inner, max_size=4),
    max_leaves=10,
)


@given(
    changed=st.dictionaries(st.sampled_from(sorted(ALERTS_EXAMPLE)), _JSON, max_size=2),
    inner=st.dictionaries(st.sampled_from(sorted(ALERTS_EXAMPLE["alerts"][0])), _JSON, max_size=2),
)
def test_any_body_is_read_or_rejected(changed: dict[str, Any], inner: dict[str, Any]) -> None:
    found = None
    with contextlib.suppress(InvalidAlertsError):
        found = read_notification({**notification(alert(**inner)), **changed})
    assert found is None or found.title


def test_target_name_is_its_address_without_credentials() -> None:
    assert target_name("http://user:secret@shop.example:8011/api/?token=x") == "shop.example:8011/api"
    assert target_name("https://shop.example") == "shop.example:443"
    assert target_name("http://[::1]:8011") == "[::1]:8011"
    for wrong in ("shop:8011", "ftp://shop", "http://", "http://[", "http://shop:port", ""):
        with pytest.raises(ConfigurationError, match="TARGET_API_BASE_URL"):
            target_name(wrong)
