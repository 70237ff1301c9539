"""Muted anomalies: which are ignored after an incident, and when they count again."""

from __future__ import annotations

from typing import Any

import pytest

from relab.incidents.detection.detector import MAX_MUTED_S, Detector
from relab.incidents.models import AbsenceReason
from tests.support.incidents.polls import SECOND_US, SETTINGS, Polls


def test_muted_anomaly_opens_again_when_worse_or_recurring() -> None:
    polls = Polls()
    slow = {"latency.p95_ms": 400.0}
    found = polls.polls(3, slow)
    polls.detector.mute(found.confirmed)
    assert not any(polls.poll(slow).opens for _ in range(4))
    assert polls.polls(2, {"latency.p95_ms": 520.0}).opens
    again = Detector(SETTINGS)
    again.take(polls.detector.dump())
    polls.detector = again
    assert not any(polls.poll(slow).opens for _ in range(5))
    polls.at_us += 700 * SECOND_US
    polls.polls(1)
    assert polls.polls(2, slow).opens


TIMED_OUT = {"absent": dict.fromkeys(("health", "metrics"), AbsenceReason.TIMED_OUT)}


@pytest.mark.parametrize(
    "outage", [TIMED_OUT, {"words": {"dependency.database": "failing"}}], ids=["no_answer", "database"]
)
def test_muted_outage_that_ended_is_found_when_it_comes_back(outage: dict[str, Any]) -> None:
    polls = Polls()
    polls.detector.mute(polls.polls(3, **outage).confirmed)
    polls.detector.settle()
    assert not any(polls.poll(**outage).opens for _ in range(30)), "muted while it lasts"
    polls.polls(SETTINGS.confirm_of_polls)
    assert polls.polls(SETTINGS.confirm_polls, **outage).opens


def test_muted_outage_stays_muted_over_a_single_good_poll_and_a_restart_of_the_responder() -> None:
    polls = Polls()
    polls.detector.mute(polls.polls(3, **TIMED_OUT).confirmed)
    polls.poll()
    assert not any(polls.poll(**TIMED_OUT).opens for _ in range(5))
    again = Detector(SETTINGS)
    again.take(polls.detector.dump())
    polls.detector, polls.at_us = again, polls.at_us + 60 * SECOND_US
    assert not any(polls.poll(**TIMED_OUT).opens for _ in range(5))


def test_muted_anomaly_becomes_part_of_the_baseline() -> None:
    polls = Polls()
    slow = {"latency.p95_ms": 400.0}
    polls.detector.mute(polls.polls(3, slow).confirmed)
    polls.polls(40, slow)
    usual = polls.detector.baseline.usual("latency.p95_ms")
    assert usual is not None
    assert usual.median == 400.0


@pytest.mark.parametrize("shown", [{"numbers": {"latency.p95_ms": 400.0}}, TIMED_OUT], ids=["slow", "no_answer"])
def test_briefly_muted_anomaly_counts_again_after_a_minute(shown: dict[str, Any]) -> None:
    polls = Polls()
    polls.detector.mute_briefly(polls.polls(3, **shown).confirmed)
    seconds = int(MAX_MUTED_S / SETTINGS.poll_interval_s)

    assert not any(polls.poll(**shown).opens for _ in range(seconds - 1))
    assert polls.polls(SETTINGS.confirm_polls, **shown).opens


def test_briefly_muted_anomaly_that_becomes_worse_counts_at_once() -> None:
    polls = Polls()
    polls.detector.mute_briefly(polls.polls(3, {"latency.p95_ms": 400.0}).confirmed)

    assert polls.polls(SETTINGS.confirm_polls, {"latency.p95_ms": 520.0}).opens


def test_briefly_muted_number_of_errors_that_varies_does_not_count_as_worse() -> None:
    polls = Polls()
    for errors in (40.0, 60.0, 25.0):
        found = polls.poll({"cache.errors": errors})
    polls.detector.mute_briefly(found.confirmed)

    assert found.opens
    assert not any(polls.poll({"cache.errors": errors}).opens for errors in (60.0, 35.0, 55.0, 65.0))
    assert polls.polls(SETTINGS.confirm_polls, {"cache.errors": 80.0}).opens


def test_baseline_does_not_learn_from_briefly_muted_anomalies() -> None:
    polls = Polls()
    before = polls.detector.baseline.usual("latency.p95_ms")
    polls.detector.mute_briefly(polls.polls(3, {"latency.p95_ms": 400.0}).confirmed)

    polls.polls(40, {"latency.p95_ms": 400.0})

    assert polls.detector.baseline.usual("latency.p95_ms") == before


@pytest.mark.parametrize("moved_s", [0.0, -3_600.0], ids=["same_clock", "clock_set_back"])
def test_briefly_muted_anomaly_counts_again_after_a_restart_of_the_responder(moved_s: float) -> None:
    polls = Polls()
    slow = {"latency.p95_ms": 400.0}
    polls.detector.mute_briefly(polls.polls(3, slow).confirmed)
    again = Detector(SETTINGS)
    again.take(polls.detector.dump())
    polls.detector = again
    if moved_s == 0.0:
        assert not any(polls.poll(slow).opens for _ in range(5))
        polls.at_us += int(MAX_MUTED_S * SECOND_US)
    else:
        polls.at_us += int(moved_s * SECOND_US)
    assert polls.polls(SETTINGS.confirm_polls, slow).opens


def test_errors_of_the_muted_minute_do_not_count_after_a_restart_of_the_responder() -> None:
    polls = Polls()
    failing = {"errors.pct": 40.0}
    shift = [item for item in polls.polls(3, failing).confirmed if item.detector == "level_shift"]
    polls.detector.mute_briefly(shift)
    again = Detector(SETTINGS)
    again.take(polls.detector.dump())
    polls.detector = again

    assert not any(polls.poll(failing).opens for _ in range(20))
    assert polls.poll().is_quiet


def test_end_of_the_muted_minute_from_before_the_clock_was_set_back_is_ignored() -> None:
    polls = Polls()
    failing = {"errors.pct": 40.0}
    polls.detector.mute_briefly([])
    again = Detector(SETTINGS)
    again.take(polls.detector.dump())
    polls.detector = again
    polls.at_us -= 3_600 * SECOND_US

    found = polls.polls(SETTINGS.confirm_polls, failing)

    assert "burn_rate" in {item.detector for item in found.confirmed}


def test_minute_of_a_closing_that_was_missed_begins_at_the_closing() -> None:
    polls = Polls()
    slow = {"latency.p95_ms": 400.0}
    found = polls.polls(3, slow)
    polls.detector.mute_briefly(found.confirmed, since_us=polls.at_us - 40 * SECOND_US)

    assert not any(polls.poll(slow).opens for _ in range(19))
    assert polls.polls(SETTINGS.confirm_polls, slow).opens


def test_other_problem_counts_at_once_while_an_anomaly_is_briefly_muted() -> None:
    polls = Polls()
    slow = {"latency.p95_ms": 400.0}
    polls.detector.mute_briefly(polls.polls(3, slow).confirmed)

    assert polls.polls(SETTINGS.confirm_polls, slow, words={"dependency.database": "failing"}).opens
