"""Fixtures: reports built by hand in the form that the analyzer returns."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from relab.rca.models import ActionItem, Category, Confidence, Evidence, EvidenceKind, Hypothesis, Report

SCHEMA_CALL = Evidence(
    evidence_id="ev_tool_call-001",
    kind=EvidenceKind.TOOL_CALL,
    ref_id="call-001",
    title="Failed tool call: order_lookup_api",
    field="error_message",
    snippet="Missing required field: 'customer_id'. API schema updated to v2.0, see https://docs.example/orders?v=2",
    attributes={"error_class": "ValidationError", "status_code": 400, "latency_ms": 9500, "recovered": False},
)
GUARDRAIL = Evidence(
    evidence_id="ev_guard_guard-001",
    kind=EvidenceKind.GUARDRAIL_EVENT,
    ref_id="guard-001",
    title="Guardrail event: schema_validation",
    field="message",
    snippet="Tool call failed validation\n  after 30s; rate limit untouched",
)
SHIPPING = Evidence(
    evidence_id="ev_step_step-003",
    kind=EvidenceKind.STEP,
    ref_id="step-003",
    title="Step: Check shipping status",
    field="output_summary",
    snippet="Grüße from Zürich: parcel TRACK-12345 is in transit",
)


@pytest.fixture
def make_report() -> Callable[..., Report]:
    def make(**changes: Any) -> Report:
        evidence = {item.evidence_id: item for item in (SCHEMA_CALL, GUARDRAIL, SHIPPING)}
        fields: dict[str, Any] = {
            "category": Category.TOOL_SCHEMA_MISMATCH,
            "insufficient_evidence": False,
            "summary": "order_lookup_api rejected its arguments 2 times; Step Look Up Order failed.",
            "findings": (),
            "hypotheses": (
                Hypothesis.citing(
                    evidence,
                    title="Tool schema mismatch",
                    description="The tool order_lookup_api was called without a field that it requires.",
                    category=Category.TOOL_SCHEMA_MISMATCH,
                    confidence=Confidence.HIGH,
                    verification_steps=("Compare the arguments with the schema.",),
                    evidence_ids=("ev_tool_call-001", "ev_guard_guard-001"),
                ),
            ),
            "attribution": None,
            "action_items": (
                ActionItem(type="code_change", title="Send it", description="Add the field.", priority="high"),
            ),
            "analyzer_version": "1",
            **changes,
        }
        return Report.build(evidence, **fields)

    return make


@pytest.fixture
def report(make_report: Callable[..., Report]) -> Report:
    """Return a report with one hypothesis that cites two items of evidence, and a third item that nothing cites."""
    return make_report()
