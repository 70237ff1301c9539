"""The reports of the two workflows of the AgentOps seed equal those that the seed shows."""

from __future__ import annotations

import json

import pytest

from relab.rca.analyzer import analyze, build_report, classify, collect_evidence
from relab.rca.models import Category, Confidence, Report
from relab.telemetry.models import AgentRun
from support.telemetry.seeds import seed_body
from unit.rca.builders import agent_run, event


def run_of(workflow: int) -> AgentRun:
    return AgentRun.model_validate(json.loads(seed_body(workflow)))


def test_workflow_1_names_the_schema_mismatch() -> None:
    report = analyze(run_of(1))
    assert report.category is Category.TOOL_SCHEMA_MISMATCH
    assert not report.insufficient_evidence
    assert report.insufficient_reason is None
    first = report.hypotheses[0]
    assert first.title == "Tool Schema Mismatch Root Cause"
    assert first.description.startswith("Tool call failed due to schema validation error")
    assert "order_lookup_api" in first.description
    assert first.evidence_ids == ("ev_tool_call-001", "ev_guard_guard-001")
    assert first.confidence is Confidence.HIGH
    assert first.verification_steps == (
        "Review tool call logs for detailed error traces",
        "Check external service status and API documentation",
    )


def test_workflow_1_quotes_the_call_first() -> None:
    evidence = analyze(run_of(1)).evidence_index[0]
    assert evidence.model_dump(mode="json", exclude={"field"}) == {
        "evidence_id": "ev_tool_call-001",
        "kind": "tool_call",
        "ref_id": "call-001",
        "title": "Failed tool call: order_lookup_api",
        "snippet": "Missing required field: 'customer_id'. API schema updated to v2.0 requiring customer_id",
        "attributes": {"error_class": "ValidationError", "status_code": 400},
    }


def test_workflow_1_has_location_and_next_actions() -> None:
    report = analyze(run_of(1))
    assert report.attribution is not None
    assert report.attribution.step_id == "step-002"
    assert report.attribution.call_id == "call-001"
    action = report.action_items[0]
    assert action.type == "code_change"
    assert action.title == "Update tool schema validation"
    assert action.priority == "high"
    assert action.description.startswith("Review and update tool argument schemas to match current API contract")
    assert report.summary.startswith("The run failed because order_lookup_api rejected its arguments:")
    assert 'order_lookup_api [call-001] in step "Look up order details" [step-002]' in report.summary
    assert "`order_lookup_api` was called without `customer_id`; the tool requires it" in action.description
    assert '`{"order_number": "12345", "include_items": true}`' in action.description
    assert action.evidence_ids == ("ev_tool_call-001", "ev_tool_call-001~2")


def test_workflow_1_keeps_the_repeat_as_a_finding() -> None:
    report = analyze(run_of(1))
    located = [(finding.category, finding.call_id) for finding in report.findings if finding.call_id]
    assert located == [
        (Category.TOOL_SCHEMA_MISMATCH, "call-001"),
        (Category.TOOL_SCHEMA_MISMATCH, "call-003"),
    ]
    assert not any(finding.recovered for finding in report.findings)


def test_workflow_2_admits_insufficient_evidence() -> None:
    report = analyze(run_of(2))
    assert report.category is Category.UNKNOWN
    assert report.insufficient_evidence
    assert report.insufficient_reason == "Limited telemetry: no tool failures or specific error details captured"
    assert report.evidence_index == ()
    assert report.hypotheses == ()
    assert report.findings == ()
    assert report.attribution is None
    assert [item.model_dump() for item in report.action_items] == [
        {
            "type": "monitoring",
            "title": "Enable detailed tracing",
            "description": "Add structured logging and tracing to capture more diagnostic information.",
            "priority": "high",
        },
        {
            "type": "code_change",
            "title": "Add structured error codes",
            "description": "Implement error code taxonomy to enable better classification in future RCAs.",
            "priority": "medium",
        },
    ]


def test_collect_classify_and_build_give_the_same_report_as_analyze() -> None:
    run = run_of(1)
    assert build_report(classify(collect_evidence(run))) == analyze(run)


def test_report_survives_storage() -> None:
    for workflow in (1, 2):
        report = analyze(run_of(workflow))
        stored = json.loads(report.model_dump_json())
        # Report.load reads a stored report and applies the citation rule again.
        assert Report.load(stored) == report


@pytest.mark.parametrize(
    ("words", "category"),
    [
        ("Tool argument validation error", Category.TOOL_SCHEMA_MISMATCH),
        ("HTTP 429", Category.RATE_LIMITED),
        ("Rate limit error", Category.RATE_LIMITED),
        ("Permission error", Category.TOOL_PERMISSION),
        ("Timeout error", Category.TIMEOUT),
        ("Excessive retries", Category.PLANNER_LOOP),
        ("Empty search results", Category.RETRIEVAL_EMPTY),
        ("Empty retrieval results", Category.RETRIEVAL_EMPTY),
        ("Prompt behavior changes", Category.PROMPT_REGRESSION),
    ],
)
def test_words_of_the_seed_show_their_category(words: str, category: Category) -> None:
    assert analyze(agent_run(error_type="AgentError", error_message=words)).category is category


@pytest.mark.parametrize("category", [category for category in Category if category is not Category.UNKNOWN])
def test_error_and_guardrail_event_with_the_name_of_a_category_show_it(category: Category) -> None:
    assert analyze(agent_run(error_type=category.value)).category is category
    assert analyze(agent_run(guardrail_events=[event(type=category.value)])).category is category
