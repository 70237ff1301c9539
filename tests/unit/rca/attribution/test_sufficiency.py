"""Insufficient evidence: the report says when telemetry does not support a conclusion, and lowers its confidence."""

from __future__ import annotations

from typing import Any

import pytest

from relab.rca.analyzer import analyze
from relab.rca.evidence.generic_errors import is_generic_class, is_generic_message
from relab.rca.models import AttributionBasis, Category, Confidence
from support.telemetry.runs import step
from unit.rca.builders import agent_run, call, event, failed


@pytest.mark.parametrize(
    "message",
    [
        None, "", "  ", "Internal Server Error", "INTERNAL SERVER ERROR!", "Something went wrong.", "Unknown error",
        "failed", "Error:", "An error occurred", "500 Internal Server Error", "Oops! An unexpected error has occurred.",
        "The request could not be completed. Please try again later.", "tool call failed", "Unhandled exception", "null",
    ],
)  # fmt: skip
def test_generic_message_is_recognised(message: str | None) -> None:
    assert is_generic_message(message)


@pytest.mark.parametrize(
    "message", ["timed out", "403", "missing field id", "error 1042", "no space left on device", "データエラー", "x" * 500]
)  # fmt: skip
def test_informative_messages_are_sufficient(message: str) -> None:
    assert not is_generic_message(message)


def test_generic_error_class_is_recognised() -> None:
    assert all(is_generic_class(name) for name in (None, "", "Exception", "builtins.RuntimeError", "ToolError"))
    assert not any(is_generic_class(name) for name in ("KeyError", "openai.RateLimitError"))


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"error_message": "Something went wrong"},
        {"error_message": "Rate limit reached"},  # a detail, but nothing else was captured
        {"error_type": "", "steps": [step("s1", status="failure", error_message="429 Too Many Requests")]},
        {"tool_calls": [call("c1")]},
        {"tool_calls": [failed("c1")]},
        {"tool_calls": [failed("c1", error_class="ToolError", error_message="failed", status_code=500)]},
        {"tool_calls": [failed("c1")], "error_type": "Exception", "error_message": "An error occurred"},
    ],
)
def test_run_with_only_generic_errors_has_insufficient_evidence(fields: dict[str, Any]) -> None:
    report = analyze(agent_run(**fields))
    assert report.insufficient_evidence
    assert report.insufficient_reason is not None
    assert report.insufficient_reason.startswith("Limited telemetry:")
    assert [item.title for item in report.action_items] == ["Enable detailed tracing", "Add structured error codes"]
    assert all(hypothesis.confidence is Confidence.LOW for hypothesis in report.hypotheses)
    expected = report.hypotheses[0].category if report.hypotheses else Category.UNKNOWN
    assert report.category is expected


@pytest.mark.parametrize(
    "fields",
    [
        {"error_type": "WrongAnswerError"},
        {"error_type": "Exception", "error_message": "no such customer"},
        {"tool_calls": [failed("c1", error_class="KeyError")]},
        {"tool_calls": [failed("c1", error_message="no such customer")]},
        {"tool_calls": [failed("c1", status_code=503)]},
        {"tool_calls": [call("c1")], "steps": [step("s1", status="failure", error_message="no such customer")]},
        {"tool_calls": [call("c1", result_summary="Error: payment does not add up")]},
        {"guardrail_events": [event()]},
        {"tool_calls": [call(f"c{n}", n, args_json={}, result_summary="x") for n in range(3)]},  # a loop
    ],
)
def test_run_with_a_specific_error_has_sufficient_evidence(fields: dict[str, Any]) -> None:
    report = analyze(agent_run(**fields))
    assert not report.insufficient_evidence
    assert report.insufficient_reason is None


@pytest.mark.parametrize("status", ["success", "running", "cancelled"])
def test_only_failed_runs_can_lack_evidence(status: str) -> None:
    assert not analyze(agent_run(status)).insufficient_evidence


def test_hint_without_telemetry_has_low_confidence() -> None:
    report = analyze(agent_run(steps=[step("s1", status="failure", error_message="429 Too Many Requests")]))
    assert report.category is Category.RATE_LIMITED
    assert [h.confidence for h in report.hypotheses] == [Confidence.LOW]
    assert report.findings[0].confidence is Confidence.MEDIUM
    assert report.attribution is not None
    assert report.attribution.confidence is Confidence.LOW


def test_generic_failure_is_located_without_a_hypothesis() -> None:
    report = analyze(agent_run(tool_calls=[failed("c1")]))
    assert report.hypotheses == ()
    assert report.attribution is not None
    assert report.attribution.call_id == "c1"
    assert report.attribution.confidence == Confidence.LOW
    assert [item.evidence_id for item in report.evidence_index] == ["ev_tool_c1"]
    assert report.evidence_index[0].snippet == "failure"


def test_conversation_without_any_error_has_only_a_ranked_guess() -> None:
    steps = [step(f"s{n}", n, agent_name=f"a{n % 2}", output_summary=f"message {n}") for n in range(6)]
    report = analyze(agent_run(steps=steps))
    assert report.insufficient_evidence
    assert report.attribution is not None
    assert report.attribution.basis is AttributionBasis.RANKED_GUESS
    assert report.attribution.confidence is Confidence.LOW
    assert report.hypotheses == ()


def test_server_error_of_a_models_provider_is_sufficient_without_details() -> None:
    fields = {"status": "failure", "error_message": "Error code: 500 - Internal Server Error"}
    asked = analyze(agent_run(tool_calls=[call("c1")], steps=[step("s1", span_kind="llm", **fields)]))
    other = analyze(agent_run(tool_calls=[call("c1")], steps=[step("s1", span_kind="chain", **fields)]))

    assert (asked.insufficient_evidence, other.insufficient_evidence) == (False, True)
    assert asked.attribution is not None
    assert (asked.attribution.step_id, asked.attribution.confidence) == ("s1", Confidence.MEDIUM)
