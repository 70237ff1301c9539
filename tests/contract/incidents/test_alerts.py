"""Alerts: each opens or joins an incident once, although senders repeat and retry notifications."""

from __future__ import annotations

from collections.abc import Callable

from relab.incidents.models import Severity
from relab.incidents.storage.alerts import OUTLIVED_US
from relab.incidents.storage.log import IncidentLog
from relab.incidents.storage.models import AlertIntake, IncidentOutcome, ReceivedAlert
from support.incidents.acts import NOW_US
from support.incidents.logs import anomaly, at_once, opened


def alert(
    fingerprint: str = "1a30ba71cca2921f", *, starts_at_us: int | None = NOW_US, is_firing: bool = True
) -> ReceivedAlert:
    told = anomaly(f"alert.{fingerprint}", detector="alert", detail=f"{fingerprint} is high.")
    return ReceivedAlert(fingerprint, starts_at_us, is_firing, told, {"labels": {"alertname": "ErrorsHigh"}})


def take_in(
    log: IncidentLog, target: str, *alerts: ReceivedAlert, group: str = "g", at_us: int = NOW_US
) -> AlertIntake:
    return log.alerts.take_in(
        target, f"{target}:{group}", alerts, at_us=at_us, title="ErrorsHigh", severity=Severity.CRITICAL
    )


def test_notification_opens_an_incident_and_its_repetition_changes_nothing(log: IncidentLog, target: str) -> None:
    first = take_in(log, target, alert("a"), alert("b"))

    assert first.opened is not None
    assert first.opened.created
    incident = log.get(first.opened.incident.incident_id)
    assert first.opened.incident == incident
    assert incident.title == "ErrorsHigh"
    assert incident.severity == Severity.CRITICAL
    assert [each.signal for each in incident.findings] == ["alert.a", "alert.b"]
    assert [event.kind for event in log.read_after(incident.incident_id)] == ["opened", "alert", "alert"]

    again = take_in(log, target, alert("b"), alert("a"), at_us=NOW_US + 5)
    assert again == AlertIntake((), None)
    assert log.get(incident.incident_id) == incident


def test_new_alerts_of_a_notification_join_the_incident(log: IncidentLog, target: str) -> None:
    first = take_in(log, target, alert("a"))

    second = take_in(log, target, alert("a"), alert("c"), at_us=NOW_US + 1)

    assert first.opened is not None
    assert second.opened is not None
    assert [each.fingerprint for each in second.fresh] == ["c"]
    assert not second.opened.created
    assert second.opened.incident.incident_id == first.opened.incident.incident_id


def test_alert_joins_an_incident_that_a_detector_opened(log: IncidentLog, target: str) -> None:
    incident = opened(log, target)

    found = take_in(log, target, alert())

    assert found.opened is not None
    assert found.opened.created is False
    assert found.opened.incident.incident_id == incident.incident_id


def test_end_of_an_alert_is_stored_once_and_opens_no_incident(log: IncidentLog, target: str) -> None:
    intake = take_in(log, target, alert("a"))
    assert intake.opened is not None
    ended = alert("a", is_firing=False)

    assert take_in(log, target, ended, at_us=NOW_US + 1) == AlertIntake((ended,), None)
    assert take_in(log, target, ended, at_us=NOW_US + 2) == AlertIntake((), None)
    assert take_in(log, target, alert("a"), at_us=NOW_US + 3) == AlertIntake((), None), "a late retry"

    told = [event.message for event in log.read_after(intake.opened.incident.incident_id)]
    assert told[1:] == ["An alert fires: a is high.", "An alert has ended: a is high."]
    unknown = alert("never-fired", is_firing=False)
    assert take_in(log, target, unknown) == AlertIntake((unknown,), None)


def test_alert_with_a_later_start_or_another_group_is_a_new_alert(log: IncidentLog, target: str) -> None:
    first = take_in(log, target, alert("a"))
    assert first.opened is not None
    log.close(first.opened.incident.incident_id, at_us=NOW_US, outcome=IncidentOutcome.PASSED)
    assert take_in(log, target, alert("a")).opened is None

    again = take_in(log, target, alert("a", starts_at_us=NOW_US + 60))
    other = take_in(log, target, alert("a"), group="h")

    assert again.opened is not None
    assert again.opened.created
    assert other.opened is not None
    assert not other.opened.created


def test_alert_with_an_earlier_start_is_the_same_alert(log: IncidentLog, target: str) -> None:
    first = take_in(log, target, alert("a", starts_at_us=NOW_US - 5))
    assert first.opened is not None
    incident_id = first.opened.incident.incident_id

    assert take_in(log, target, alert("a", starts_at_us=NOW_US - 9)) == AlertIntake((), None)
    assert take_in(log, target, alert("a", starts_at_us=NOW_US - 5)) == AlertIntake((), None), "a late retry"
    ended = alert("a", starts_at_us=NOW_US - 20, is_firing=False)
    assert take_in(log, target, ended) == AlertIntake((ended,), None), "moved once more, and over"
    assert take_in(log, target, ended) == AlertIntake((), None)
    assert [event.kind for event in log.read_after(incident_id)] == ["opened", "alert", "alert"]

    again = take_in(log, target, alert("a", starts_at_us=NOW_US))
    assert [each.fingerprint for each in again.fresh] == ["a"], "it fires again"


def test_alert_without_a_beginning_is_identified_by_its_fingerprint(log: IncidentLog, target: str) -> None:
    firing, ended = alert("a", starts_at_us=None), alert("a", starts_at_us=None, is_firing=False)

    first = take_in(log, target, firing)
    assert first.opened is not None
    incident_id = first.opened.incident.incident_id
    assert take_in(log, target, firing, at_us=NOW_US + 5) == AlertIntake((), None), "a repetition"
    assert log.alerts.fires(incident_id, since_us=NOW_US + 5)

    assert len(take_in(log, target, ended, at_us=NOW_US + 9).fresh) == 1
    assert not log.alerts.fires(incident_id, since_us=0)
    assert take_in(log, target, ended, at_us=NOW_US + 10) == AlertIntake((), None), "a repetition"

    again = take_in(log, target, firing, at_us=NOW_US + 20)
    assert again.opened is not None, "it fires again"
    assert log.alerts.fires(incident_id, since_us=NOW_US + 20)
    messages = [event.message for event in log.read_after(incident_id) if event.kind == "alert"]
    assert messages == ["An alert fires: a is high.", "An alert has ended: a is high.", "An alert fires: a is high."]


def test_end_without_a_beginning_ends_all_firing_alerts_of_its_fingerprint(log: IncidentLog, target: str) -> None:
    intake = take_in(log, target, alert("a", starts_at_us=NOW_US - 9), alert("b"))
    assert intake.opened is not None
    take_in(log, target, alert("a", starts_at_us=NOW_US - 5))

    found = take_in(log, target, alert("a", starts_at_us=None, is_firing=False), at_us=NOW_US + 1)

    assert [each.starts_at_us for each in found.fresh] == [NOW_US - 9, NOW_US - 5]
    assert log.alerts.fires(intake.opened.incident.incident_id, since_us=0), "b fires"
    take_in(log, target, alert("b", is_firing=False))
    assert not log.alerts.fires(intake.opened.incident.incident_id, since_us=0)


def test_unusual_alerts_are_accepted(log: IncidentLog, target: str) -> None:
    odd = [
        ReceivedAlert(text, time, True, anomaly(text, detail=text), {text: text, "n": float("nan"), "long": text * 999})
        for text, time in (("\x00", -(10**30)), ("\ud800", 10**30), ("x" * 9_999, 0), ("", 1))
    ]

    found = log.alerts.take_in(target, "\x00" * 9_999, odd, at_us=NOW_US, title="\x00\ud800", severity=Severity.WARNING)

    assert len(found.fresh) == 4
    repeated = log.alerts.take_in(target, "\x00" * 9_999, odd, at_us=NOW_US, title="", severity=Severity.WARNING)
    assert repeated.fresh == ()


def test_one_of_several_concurrent_senders_adds_the_alert(log: IncidentLog, log_url: str, target: str) -> None:
    names = ["a", "b", "c", "d"]

    def send(turn: int) -> Callable[[IncidentLog], AlertIntake]:
        order = names[turn % 4 :] + names[: turn % 4]
        return lambda own: take_in(own, target, *(alert(name) for name in order))

    found = at_once(log_url, [send(turn) for turn in range(6)])

    assert sorted(each.fingerprint for intake in found for each in intake.fresh) == names
    assert [intake.opened.created for intake in found if intake.opened is not None].count(True) == 1
    current = log.current(target)
    assert current is not None
    assert len(current.findings) == 4
    assert all(each.count == 1 for each in current.findings)


def test_old_alerts_are_deleted(log: IncidentLog, target: str) -> None:
    take_in(log, target, alert("a", is_firing=False), at_us=1_000)
    take_in(log, target, alert("b", is_firing=False), at_us=1_000)
    take_in(log, target, alert("b", is_firing=False), at_us=5_000)

    log.forget_alerts(2_000)

    assert [len(take_in(log, target, alert(name, is_firing=False)).fresh) for name in ("a", "b")] == [1, 0]


def test_an_alert_that_fires_long_after_its_incident_opens_another_one(log: IncidentLog, target: str) -> None:
    first = take_in(log, target, alert("a"))
    assert first.opened is not None
    log.close(first.opened.incident.incident_id, at_us=NOW_US + 10, outcome=IncidentOutcome.RESOLVED)

    # An alert may fire for a while after the end of its incident, until the sender notices the end.
    assert take_in(log, target, alert("a"), at_us=NOW_US + 9 + OUTLIVED_US) == AlertIntake((), None)
    second = take_in(log, target, alert("a"), at_us=NOW_US + 10 + OUTLIVED_US)
    assert second.opened is not None
    assert second.opened.created
    assert take_in(log, target, alert("a"), at_us=NOW_US + 11 + OUTLIVED_US) == AlertIntake((), None)
    ended = take_in(log, target, alert("a", is_firing=False), at_us=NOW_US + 12 + OUTLIVED_US)
    assert [each.fingerprint for each in ended.fresh] == ["a"]


def test_alert_of_a_dismissed_incident_opens_no_other_incident(log: IncidentLog, target: str) -> None:
    first = take_in(log, target, alert("a"))
    assert first.opened is not None
    log.close(first.opened.incident.incident_id, at_us=NOW_US, outcome=IncidentOutcome.DISMISSED)

    assert take_in(log, target, alert("a"), at_us=NOW_US + 10 * OUTLIVED_US) == AlertIntake((), None)
