"""The HTTP status code that a model call of a trace reports classifies its failure, even if its message says nothing."""

from __future__ import annotations

import pytest

from relab.rca.analyzer import analyze
from relab.rca.models import Category, Confidence, Report
from support.telemetry.runs import step
from unit.rca.builders import agent_run


def _report(status_code: int) -> Report:
    failed = step(
        "s1", status="failure", error_class="APIError", error_message="API call failed", status_code=status_code
    )
    return analyze(agent_run(steps=[failed]))


@pytest.mark.parametrize(
    ("status_code", "category", "detail"),
    [
        (429, Category.RATE_LIMITED, None),
        (401, Category.TOOL_PERMISSION, "authentication"),
        (404, Category.UNKNOWN, "not_found"),
        (500, Category.UNKNOWN, "upstream_error"),
        (503, Category.UNKNOWN, "upstream_error"),
        (504, Category.TIMEOUT, "gateway"),
    ],
)
def test_status_code_of_failed_model_call_names_cause(status_code: int, category: Category, detail: str | None) -> None:
    finding = _report(status_code).findings[0]
    assert (finding.category, finding.detail) == (category, detail)


@pytest.mark.parametrize("status_code", [400, 422])
def test_rejected_request_of_model_is_no_rejection_of_arguments_of_a_tool(status_code: int) -> None:
    assert Category.TOOL_SCHEMA_MISMATCH not in {finding.category for finding in _report(status_code).findings}


def test_status_code_of_success_is_no_sign() -> None:
    report = analyze(agent_run(steps=[step("s1", status="failure", status_code=200)]))
    assert report.findings[0].detail == "unclassified_error"
    assert {quote.field for quote in report.evidence_index} == {"status"}


def test_equal_errors_of_a_model_call_and_of_another_step_are_classified_apart() -> None:
    error = {"status": "failure", "error_message": "Error code: 500 - Internal Server Error"}
    asked, other = step("s1", 1, span_kind="llm", **error), step("s2", 2, span_kind="chain", **error)
    found = {finding.step_id: finding.confidence for finding in analyze(agent_run(steps=[asked, other])).findings}
    assert found == {"s1": Confidence.MEDIUM, "s2": Confidence.LOW}
