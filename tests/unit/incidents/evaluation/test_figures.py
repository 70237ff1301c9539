"""Figures of an evaluation: which episodes each counts, its unit, and its confidence interval."""

from __future__ import annotations

import json
from typing import Any

import pytest

from relab.incidents.evaluation.figures import EpisodeMetrics, by_subject, compared, figures_of, read_episode


def fault(number: int, responder: str = "mine", subject: str = "hang", **given: Any) -> EpisodeMetrics:
    metrics = {
        "kind": "fault", "subject": subject, "detected": True, "diagnosis_at_1": True, "mitigated": True, "false_alarms": 0,
        "healthy_polls": 20, "harm_user_error_s": 10.0, "actions": 1, "harmful_actions": 0, "cost_usd": 0.0,
    }  # fmt: skip
    return EpisodeMetrics(responder, f"episode-{number}", metrics | given)


def healthy(number: int, **given: Any) -> EpisodeMetrics:
    metrics = {
        "kind": "noisy", "subject": "noisy", "false_alarms": 0, "healthy_polls": 120, "harm_user_error_s": 0.5,
        "actions": 0, "harmful_actions": 0, "cost_usd": 0.0,
    }  # fmt: skip
    return EpisodeMetrics("mine", f"episode-{number}", metrics | given)


def output(outcome: str, **more: Any) -> dict[str, Any]:
    return {"ids": {"variant_id": "mine", "task_id": "e"}, "outcome": outcome, **more}


def test_episode_that_ended_in_an_error_is_not_counted() -> None:
    assert read_episode(output("failure", metrics={"kind": "fault"})).metrics == {"kind": "fault"}
    assert read_episode(output("error", error={"error_type": "no_bed"})).metrics == {}
    assert read_episode(output("error", metrics={"kind": "fault"})).metrics == {}


def test_rates_count_only_applicable_episodes() -> None:
    episodes = [
        fault(1), fault(2, detected=False, diagnosis_at_1=False, mitigated=False),
        fault(3, diagnosis_at_1=False, mitigated_though_wrong=True), healthy(4), EpisodeMetrics("mine", "episode-5", {}),
    ]  # fmt: skip
    found = figures_of(episodes)
    assert found["episodes"] == 5
    assert found["without_figures"] == 1
    assert found["with_something_wrong"] == 3
    rates = {name: (rate["hits"], rate["of"]) for name, rate in found["rates"].items()}
    assert rates == {
        "detected": (2, 3),
        "diagnosis_at_1": (1, 3),
        "mitigated": (2, 3),
        "mitigated_though_wrong": (1, 1),
    }
    detected = found["rates"]["detected"]
    # With one subject, the lower bound is Clopper-Pearson's of 2 in 3 and the upper one that of the score interval.
    assert (detected["rate"], detected["low"], detected["high"]) == pytest.approx((0.6667, 0.0943, 0.9866), abs=1e-4)
    assert found["sums"] == {"actions": 3, "harmful_actions": 0, "harm_user_error_s": 30.5, "cost_usd": 0}


def test_confidence_interval_of_a_rate_is_over_subjects() -> None:
    missed = [fault(number, subject=f"s{number % 10}", detected=number % 10 > 2) for number in range(60)]
    (alone, together) = (
        figures_of([fault(number, detected=number % 10 > 2) for number in range(60)])["rates"]["detected"],
        figures_of(missed)["rates"]["detected"],
    )
    assert together["rate"] == alone["rate"]
    # Three of ten subjects are never detected: the sample size is ten subjects, not sixty episodes.
    assert together["high"] - together["low"] > 2 * (alone["high"] - alone["low"])


def test_times_are_reported_with_median_and_tail() -> None:
    found = figures_of([fault(number, time_to_detect_s=float(number)) for number in range(1, 12)])
    assert found["times"]["time_to_detect_s"] == {"of": 11, "median": 6.0, "p90": 10.0, "most": 11.0}


def test_tokens_are_summed_over_episodes_that_report_them() -> None:
    found = figures_of([fault(1, tokens=700, cost_usd=0.01), fault(2, tokens=300), healthy(3)])["sums"]
    assert found["tokens"] == 1_000
    assert found["cost_usd"] == 0.01
    assert "tokens" not in figures_of([fault(1)])["sums"]


def test_noisy_episodes_have_a_separate_figure() -> None:
    quiet = healthy(4, kind="quiet", subject="quiet", healthy_polls=100)
    found = figures_of([fault(1), healthy(2, false_alarms=1), healthy(3), quiet])["false_alarms"]
    assert found["all"]["polls"] == 360
    assert found["healthy_episodes"]["polls"] == 340
    noisy = found["noisy_episodes"]
    assert noisy["alarms"] == 1
    assert noisy["polls"] == 240
    assert noisy["per_960_polls"] == 4.0
    assert noisy["low"] < 4 < noisy["high"]
    assert "noisy_episodes" not in figures_of([quiet])["false_alarms"]


def test_false_alarms_are_counted_per_healthy_polls() -> None:
    found = figures_of([fault(1), healthy(2, false_alarms=1), healthy(3)])["false_alarms"]
    assert found["all"]["alarms"] == 1
    assert found["all"]["polls"] == 260
    assert found["healthy_episodes"]["alarms"] == 1
    assert found["healthy_episodes"]["polls"] == 240
    assert found["healthy_episodes"]["per_960_polls"] == pytest.approx(4.0)
    # Garwood's limits of one event are 0.0253 and 5.5716.
    assert (found["healthy_episodes"]["low"], found["healthy_episodes"]["high"]) == pytest.approx(
        (0.101, 22.286), abs=1e-3
    )
    assert "healthy_episodes" not in figures_of([fault(1)])["false_alarms"]


def test_responders_are_compared_on_the_episodes_of_both() -> None:
    own = [fault(number, subject=f"s{number}", harm_user_error_s=10.0 + number % 3) for number in range(8)]
    others = [
        fault(
            number, "other", subject=f"s{number}", harm_user_error_s=40.0, mitigated=number % 2 == 0, harmful_actions=1
        )
        for number in range(6)
    ]
    found = compared(own, [*others, EpisodeMetrics("other", "episode-7", {})])
    assert found is not None
    assert found["episodes"] == 6
    harm = found["harm_user_error_s"]
    assert (harm["own"], harm["other"], harm["difference"]) == pytest.approx((11.0, 40.0, -29.0))
    assert harm["low"] < -29 < harm["high"] < 0
    assert found["mitigated"]["difference"] == pytest.approx(0.5)
    assert found["harmful_actions"]["difference"] == pytest.approx(-1.0)
    assert found["harm_ratio"]["value"] == pytest.approx(0.275)
    assert found["harm_ratio"]["low"] <= 0.275 <= found["harm_ratio"]["high"]
    assert compared(own, []) is None
    assert compared([], others) is None


def test_unbounded_figure_is_null_in_json() -> None:
    found = compared([fault(1)], [fault(1, "other", harm_user_error_s=0.0)])
    assert found is not None
    assert found["harm_ratio"] == {"value": None, "low": 0.0, "high": None}
    assert json.loads(json.dumps(found, allow_nan=False)) == found


def test_subjects_have_separate_figures() -> None:
    episodes = [
        fault(1),
        fault(2, mitigated=False),
        fault(3, subject="disk"),
        healthy(4),
        EpisodeMetrics("mine", "e", {}),
    ]
    assert by_subject(episodes) == {
        "disk": {"detected": [1, 1], "diagnosis_at_1": [1, 1], "mitigated": [1, 1]},
        "hang": {"detected": [2, 2], "diagnosis_at_1": [2, 2], "mitigated": [1, 2]},
    }
