"""The prompt_regression detector: finds real differences between versions, and ignores noise."""

from __future__ import annotations

import random
from typing import Any

import pytest

from relab.rca.analyzer import analyze
from relab.rca.detectors.comparison import compare_versions
from relab.rca.models import Category, EvidenceKind, Report
from relab.telemetry.past_models import PastRun
from support.rca.verbatim import verify_verbatim
from support.telemetry.runs import step
from unit.rca.builders import agent_run, call, event, failed, findings, past_runs

REGRESSION = Category.PROMPT_REGRESSION
GOOD, BAD = [True] * 36 + [False] * 4, [True, False] * 20


def history(now: list[bool] = BAD, then: list[bool] = GOOD, **now_fields: Any) -> list[PastRun]:
    return past_runs("1", then) + past_runs("2", now, first_hour=-500, **now_fields)


def report_of(past: list[PastRun], status: str = "failure", **fields: Any) -> Report:
    return analyze(agent_run(status, agent_version="2", **{"error_type": "WrongAnswerError", **fields}), past)


def test_worse_version_is_the_cause() -> None:
    report = report_of(history())
    assert report.category == REGRESSION
    assert report.detail == "outcome_version"
    assert not report.insufficient_evidence
    assert report.attribution is None
    assert report.hypotheses[0].confidence == "medium"
    assert "50% of 40 runs succeeded, against 90% of 40 runs" in report.hypotheses[0].description
    assert "1 → 2" in report.summary


def test_evidence_quotes_the_version_and_carries_the_statistics() -> None:
    run = agent_run(agent_version="2", error_type="WrongAnswerError")
    evidence = analyze(run, history()).evidence_index[0]
    assert evidence.evidence_id == "ev_version_run-1"
    assert evidence.kind == EvidenceKind.VERSION
    assert evidence.field == "agent_version"
    assert evidence.snippet == "2"
    assert evidence.attributes["previous_version"] == "1"
    assert evidence.attributes["runs"] == 40
    assert evidence.attributes["success_rate"] == 0.5
    assert evidence.attributes["previous_success_rate"] == 0.9
    p_value = evidence.attributes["p_value"]
    assert isinstance(p_value, float)
    assert 0 < p_value < 0.001
    assert verify_verbatim(run, evidence)


def test_changed_prompt_is_distinguished_from_changed_version() -> None:
    past = past_runs("2", GOOD, prompt="a") + past_runs("2", BAD, prompt="b", first_hour=-500)
    report = report_of(past, prompt_hash="b")
    assert report.detail == "outcome_prompt"
    assert report.evidence_index[0].field == "prompt_hash"


@pytest.mark.parametrize(
    "past",
    [
        [],
        history(now=GOOD),
        history(now=[True] * 34 + [False] * 6),  # five points: too small to matter
        history(now=[True, False]),  # too few to decide
        past_runs("1", GOOD, first_hour=100) + past_runs("2", BAD, first_hour=-500),  # no earlier version
        history(now=GOOD, then=BAD),  # better
    ],
)
def test_no_difference_is_claimed_without_grounds(past: list[PastRun]) -> None:
    assert findings(report_of(past), REGRESSION) == []


def test_versions_are_compared_with_the_one_just_before() -> None:
    past = past_runs("0", GOOD, first_hour=-2_000) + past_runs("1", BAD) + past_runs("2", BAD, first_hour=-500)
    comparison = compare_versions(agent_run(agent_version="2"), past)
    assert comparison is not None
    assert comparison.previous == ("1", None)
    assert comparison.differences == ()


def test_run_under_analysis_is_not_counted() -> None:
    run = agent_run(agent_version="2")
    own = past_runs("2", [False])[0].model_copy(update={"run_id": run.run_id, "started_at": run.started_at})
    comparison = compare_versions(run, [*history(), own])
    assert comparison is not None
    assert comparison.runs == 40


def test_other_behaviour_with_equal_success_is_a_finding_and_no_cause() -> None:
    past = past_runs("1", GOOD, steps=[5, 6] * 20) + past_runs("2", GOOD, first_hour=-500, steps=[9, 10] * 20)
    report = report_of(past)
    assert [(f.detail, f.confidence) for f in findings(report, REGRESSION)] == [("steps_version", "low")]
    assert report.category is not REGRESSION


def test_tools_that_are_no_longer_used_corroborate() -> None:
    report = report_of(history(tools=[{"guess": 1}] * 40))
    assert [f.detail for f in findings(report, REGRESSION)] == ["outcome_version", "tools_version", "tools_version"]
    assert report.hypotheses[0].confidence == "high"
    tools = {item.attributes.get("tool") for item in report.evidence_index if item.kind is EvidenceKind.VERSION}
    assert tools == {None, "guess", "search"}


def test_successful_run_has_no_cause() -> None:
    report = report_of(history(), status="success")
    assert report.hypotheses == ()
    assert report.category is Category.UNKNOWN


def test_failure_from_outside_comes_first() -> None:
    report = report_of(history(), tool_calls=[failed(status_code=429)])
    assert [h.category for h in report.hypotheses] == [Category.RATE_LIMITED, REGRESSION]


def test_behaviour_that_the_version_changed_comes_second() -> None:
    looping = [step("s1", status="failure", retries=5)]
    tied = history(steps=[20] * 40)
    assert [h.category for h in report_of(tied, steps=looping).hypotheses] == [REGRESSION, Category.PLANNER_LOOP]
    untied = history()
    assert [h.category for h in report_of(untied, steps=looping).hypotheses] == [Category.PLANNER_LOOP, REGRESSION]
    bad_call = failed(tool_name="guess", status_code=422, error_message="field required: a")
    tied = history(tools=[{"guess": 1}] * 40)
    assert report_of(tied, tool_calls=[bad_call]).category is REGRESSION


def test_unexplained_failure_yields_to_the_regression() -> None:
    report = report_of(history(), tool_calls=[failed(error_message="some odd thing"), call("c2", 2)])
    assert report.category is REGRESSION


def simulated(seed: int, rate_now: float, rate_then: float) -> list[PastRun]:
    """Return 40 runs of each version, with outcomes, steps and tools drawn independently for each run."""
    draw = random.Random(seed)

    def runs(version: str, rate: float, first_hour: int) -> list[PastRun]:
        outcomes = [draw.random() < rate for _ in range(40)]
        steps = [draw.randint(3, 12) for _ in range(40)]
        tools = [{name: 1 for name in ("search", "book", "mail", "calc") if draw.random() < 0.5} for _ in range(40)]
        return past_runs(version, outcomes, first_hour=first_hour, steps=steps, tools=tools)

    return runs("1", rate_then, -1_000) + runs("2", rate_now, -500)


def test_noise_raises_at_most_one_false_alarm_in_twenty() -> None:
    run = agent_run(agent_version="2")
    alarms = 0
    for seed in range(300):
        comparison = compare_versions(run, simulated(seed, 0.7, 0.7))
        assert comparison is not None
        alarms += bool(comparison.differences)
    assert alarms <= 0.05 * 300


def test_a_drop_from_90_to_50_percent_is_nearly_always_found() -> None:
    run = agent_run(agent_version="2")
    comparisons = [compare_versions(run, simulated(seed, 0.5, 0.9)) for seed in range(60)]
    found = sum(comparison is not None and comparison.of("outcome") is not None for comparison in comparisons)
    assert found >= 54


@pytest.mark.parametrize(
    ("fields", "confidence"),
    [
        ({"error_type": "PromptRegressionError"}, "high"),
        ({"error_message": "Prompt behavior changed: answers are no longer JSON"}, "medium"),
        ({"error_message": "Output is not JSON since the prompt update"}, "medium"),
        ({"guardrail_events": [event(type="prompt_drift", step_id="s1")]}, "high"),
    ],
)
def test_reported_regression_is_the_cause_without_past_runs(fields: dict[str, Any], confidence: str) -> None:
    report = report_of([], **fields)
    assert report.category == REGRESSION
    assert report.detail == "reported"
    assert report.hypotheses[0].confidence == confidence
    assert report.hypotheses[0].description.startswith(("Run failed", "Guarded action failed"))
    assert "met a change of the prompt" in report.summary


def test_reported_regression_and_measured_difference_are_two_causes() -> None:
    report = report_of(history(), error_message="Prompt behaviour changed")
    assert [hypothesis.category for hypothesis in report.hypotheses] == [REGRESSION, REGRESSION]
    assert {finding.detail for finding in report.findings} == {"reported", "outcome_version"}
    assert any("50% of 40 runs succeeded" in hypothesis.description for hypothesis in report.hypotheses)


@pytest.mark.parametrize(
    "message", ["The prompt is empty", "prompt changed_at is required", "Wrote the prompt to disk"]
)
def test_other_words_about_prompts_report_no_regression(message: str) -> None:
    assert findings(report_of([], error_message=message), REGRESSION) == []
