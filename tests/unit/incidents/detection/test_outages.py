"""Outages during an open incident: which cause a notification, and how often."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from relab.incidents.detection.detector import DetectionResult
from relab.incidents.detection.outages import MAX_NOTIFICATION_DELAY_S, OutageNews, OutageNewsKind, OutageTracker
from relab.incidents.models import Anomaly, Severity

SECOND_US = 1_000_000
START_US = 1_800_000_000 * SECOND_US


def errors(value: float) -> Anomaly:
    severity = Severity.CRITICAL if value >= 50 else Severity.DEGRADED
    return Anomaly("level_shift", "errors.pct", severity, value, 1.0, f"errors.pct is {value:g}")


def down(name: str) -> Anomaly:
    return Anomaly("state", f"dependency.{name}", Severity.DEGRADED, None, None, f"dependency.{name} is failing")


class Follower:
    """Observes anomalies at a fixed interval, and records the notifications that are due."""

    def __init__(self, *, is_handed_over: bool = True, interval_s: float = 1.0) -> None:
        self.outages = OutageTracker(interval_s)
        self.is_handed_over = is_handed_over
        self.interval_us = int(interval_s * SECOND_US)
        self.now_us = START_US
        self.told: list[tuple[int, list[OutageNews]]] = []

    def poll(self, *anomalies: Anomaly, times: int = 1) -> None:
        for _ in range(times):
            self.now_us += self.interval_us
            self.outages.observe(DetectionResult(anomalies), self.now_us)
            if news := self.outages.due(self.now_us, is_handed_over=self.is_handed_over):
                self.told.append((self.now_us, news))
                self.outages.note_news(news, self.now_us)

    @property
    def kinds(self) -> list[OutageNewsKind]:
        return [item.kind for _, news in self.told for item in news]


def test_known_outage_is_not_notified_again() -> None:
    follower = Follower()
    follower.outages.observe(DetectionResult((errors(30),)), START_US)
    follower.outages.note_notified(follower.outages.seen(START_US))
    follower.poll(errors(32), times=1_000)
    assert follower.told == []


def test_change_while_a_notice_is_written_is_notified() -> None:
    follower = Follower()
    follower.outages.observe(DetectionResult((errors(10),)), START_US)
    seen = follower.outages.seen(START_US)
    follower.outages.observe(DetectionResult((errors(60), down("mail"))), START_US + SECOND_US)
    follower.outages.note_notified(seen)
    follower.now_us = START_US + SECOND_US
    follower.poll(errors(60), down("mail"), times=40)
    assert follower.kinds == [OutageNewsKind.NEW, OutageNewsKind.WORSE]


def test_repeated_acknowledgement_of_a_notice_keeps_later_changes() -> None:
    follower = Follower()
    follower.outages.observe(DetectionResult((errors(10),)), START_US)
    seen = follower.outages.seen(START_US)
    follower.outages.note_notified(seen)
    follower.poll(errors(60))
    follower.outages.note_notified(seen)
    follower.poll(errors(60), times=2)
    assert follower.kinds == [OutageNewsKind.WORSE]


def test_new_recurred_and_much_worse_outages_are_each_notified_once() -> None:
    follower = Follower()
    follower.poll(errors(30), times=40)
    follower.poll(errors(30), down("mail"), times=40)
    follower.poll(errors(95), down("mail"), times=40)
    follower.poll(down("mail"), times=100)
    follower.poll(errors(95), down("mail"), times=40)
    assert follower.kinds == [OutageNewsKind.NEW, OutageNewsKind.NEW, OutageNewsKind.WORSE, OutageNewsKind.RECURRED]


def test_outage_during_a_repair_is_notified_only_if_it_lasts() -> None:
    follower = Follower(is_handed_over=False)
    follower.poll(errors(30), times=29)
    follower.poll(times=5)
    assert follower.told == []
    follower.poll(errors(30), times=31)
    assert follower.kinds == [OutageNewsKind.NEW]


@pytest.mark.parametrize("anomaly", [
    Anomaly("trend", "worker.1.rss_mb", Severity.WARNING, 900.0, 500.0, "it grows"),
    Anomaly("burn_rate", "errors.pct", Severity.CRITICAL, 20.0, 14.4, "the budget is used up"),
    Anomaly("absence", "timestamp", Severity.WARNING, None, None, "old", opens=False),
])  # fmt: skip
def test_symptom_without_user_impact_is_not_an_outage(anomaly: Anomaly) -> None:
    follower = Follower()
    follower.poll(anomaly, times=100)
    assert follower.told == []


def test_stale_figures_neither_start_nor_end_an_outage() -> None:
    follower = Follower()
    follower.poll(errors(30), times=5)
    for _ in range(100):
        follower.now_us += SECOND_US
        follower.outages.observe(DetectionResult(is_stale=True), follower.now_us)
    follower.poll(errors(30), times=50)
    assert len(follower.told) == 1


def test_clock_set_back_does_not_suppress_an_outage() -> None:
    follower = Follower()
    follower.poll(errors(30), times=5)
    follower.now_us -= 3_600 * SECOND_US
    follower.poll(errors(30), times=50)
    assert len(follower.told) == 1
    follower.poll(times=100)
    follower.poll(errors(30), times=50)
    assert follower.kinds[1:] == [OutageNewsKind.RECURRED]


def test_restarted_process_does_not_repeat_outage_notices() -> None:
    follower = Follower()
    follower.now_us = START_US + 20 * SECOND_US
    seen = [(errors(30), START_US, START_US + 15 * SECOND_US)]
    follower.outages.resume(seen, notified_us=START_US + SECOND_US, now_us=follower.now_us)
    follower.poll(errors(30), times=100)
    assert follower.told == []
    follower.outages.resume(seen, notified_us=START_US + SECOND_US, now_us=follower.now_us)
    follower.poll(errors(30), times=40)
    assert follower.kinds == [OutageNewsKind.RECURRED]


def test_number_of_remembered_signals_is_bounded() -> None:
    follower = Follower()
    for number in range(1_000):
        follower.poll(down(str(number)))
    assert len(follower.outages._signals) <= 500


PHASES = st.lists(
    st.tuples(st.sampled_from(["", "", "a", "b", "ab", "30", "95", "a30"]), st.integers(1, 90)), min_size=1, max_size=12
)


def shown(fault: str) -> tuple[Anomaly, ...]:
    found = [down(part) for part in "ab" if part in fault]
    share = "".join(char for char in fault if char.isdigit())
    return (*found, errors(float(share))) if share else tuple(found)


@settings(max_examples=150)
@given(PHASES, st.booleans(), st.sampled_from([1.0, 5.0, 10.0]))
def test_each_outage_longer_than_a_minute_is_notified_in_time(
    phases: list[tuple[str, int]], is_handed_over: bool, interval_s: float
) -> None:
    """For any order of start, recovery, recurrence and worsening: per signal, from its first poll on."""
    follower = Follower(is_handed_over=is_handed_over, interval_s=interval_s)
    began: dict[str, int] = {}
    for fault, times in phases:
        for _ in range(times):
            anomalies = shown(fault)
            follower.poll(*anomalies)
            began = {item.signal: began.get(item.signal, follower.now_us) for item in anomalies}
            for signal, begin_us in began.items():
                if follower.now_us - begin_us >= MAX_NOTIFICATION_DELAY_S * SECOND_US:
                    named = [at_us for at_us, news in follower.told if signal in {item.anomaly.signal for item in news}]
                    assert named, signal
                    assert begin_us <= named[-1], signal


@settings(max_examples=100)
@given(st.lists(st.tuples(st.integers(1, 25), st.integers(1, 25)), min_size=20, max_size=60))
def test_fluctuating_signal_causes_few_notices(rows: list[tuple[int, int]]) -> None:
    follower = Follower()
    for ill, well in rows:
        follower.poll(errors(30), times=ill)
        follower.poll(times=well)
    assert len(follower.told) <= 1
