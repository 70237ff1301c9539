"""Burn rate of the error budget: a fast and a slow rule, each over a long and a short window."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import pytest

from relab.incidents.detection.detector import Detector
from relab.incidents.detection.rules import burn_rate
from relab.incidents.detection.settings import DetectionSettings
from relab.incidents.models import Anomaly, Severity, Snapshot

SLOW = 6.0
SIX_HOURS, HALF_AN_HOUR, AN_HOUR, FIVE_MINUTES = 720, 60, 120, 10
"""In polls of 30 s."""


def polls(*shares: tuple[int, float], interval_s: float = 30.0) -> list[Snapshot]:
    """Return polls with the given error shares; each share is given as (number of polls, percent)."""
    told = itertools.chain.from_iterable(itertools.repeat(share, count) for count, share in shares)
    return [
        Snapshot(int(number * interval_s * 1e6), None, {"errors.pct": share, "traffic.requests": 300.0})
        for number, share in enumerate(told, start=1)
    ]


def burnt(*shares: tuple[int, float], interval_s: float = 30.0) -> Anomaly | None:
    """Return the anomaly found after these polls, or None; the error budget is 0.5 %."""
    found = burn_rate(polls(*shares, interval_s=interval_s), DetectionSettings(poll_interval_s=interval_s))
    assert len(found) <= 1
    return found[0] if found else None


def test_few_errors_for_hours_fire_only_the_slow_rule() -> None:
    found = burnt((SIX_HOURS, 4.0))

    assert found is not None
    assert found.severity == Severity.DEGRADED
    assert found.value == 8.0
    assert found.expected == SLOW
    assert "8.0 times as fast" in found.detail
    # The slow rule fires from a burn rate of 6, the fast one from 14.4.
    assert burnt((SIX_HOURS, 3.0)) is not None
    assert burnt((SIX_HOURS, 2.9)) is None
    grave = burnt((SIX_HOURS, 7.3))
    assert grave is not None
    assert grave.severity == Severity.CRITICAL
    assert grave.expected == 14.4


def test_short_window_alone_does_not_fire() -> None:
    assert burnt((SIX_HOURS - HALF_AN_HOUR, 0.0), (HALF_AN_HOUR, 4.0)) is None
    assert burnt((SIX_HOURS - FIVE_MINUTES, 0.0), (FIVE_MINUTES, 30.0)) is None


def test_long_window_alone_does_not_fire() -> None:
    assert burnt((SIX_HOURS - HALF_AN_HOUR, 4.0), (HALF_AN_HOUR, 0.0)) is None
    assert burnt((SIX_HOURS, 0.0), (40, 30.0), (FIVE_MINUTES, 0.0)) is None


def first_of(rule: float, shares: Iterator[float], interval_s: float) -> int | None:
    """Return after how many polls with errors the rule fires, following six hours without errors; None if never."""
    bad: list[float] = []
    for share in shares:
        bad.append(share)
        found = burnt((SIX_HOURS, 0.0), *((1, each) for each in bad), interval_s=interval_s)
        if found is not None and found.expected == rule:
            return len(bad)
    return None


@pytest.mark.parametrize("interval_s", [30.0, 1.0, 0.2])
def test_windows_are_numbers_of_polls_at_any_interval(interval_s: float) -> None:
    # 30 % in 29 of 120 polls is a burn rate of 14.4 (budget 0.5 %); 5 % in 432 of 720 is one of 6.
    assert first_of(14.4, itertools.repeat(30.0, AN_HOUR), interval_s) == 29
    assert burnt((SIX_HOURS, 0.0), (431, 5.0), interval_s=interval_s) is None
    found = burnt((SIX_HOURS, 0.0), (432, 5.0), interval_s=interval_s)
    assert found is not None
    assert found.expected == SLOW


def test_detector_keeps_the_history_of_the_slow_rule() -> None:
    detector = Detector(DetectionSettings())
    found = [detector.observe(poll) for poll in polls((SIX_HOURS, 0.0), (432, 5.0), (1, 5.0))]

    burning = [[each.expected for each in one.confirmed if each.detector == "burn_rate"] for one in found]
    assert burning[-2:] == [[], [SLOW]], "seen twice"
    assert not any(burning[:-1])


def test_few_requests_do_not_fire() -> None:
    quiet = [Snapshot(number, None, {"errors.pct": 100.0, "traffic.requests": 4.0}) for number in range(1, SIX_HOURS)]

    assert burn_rate(quiet, DetectionSettings()) == []
