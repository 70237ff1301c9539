"""The AgentOps seed's tests of reports, by the names that it gives them, on real processes."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from support.installation import BACK_ENDS, Lab, running_lab, uncited
from support.seeds import seed_body


@pytest.fixture(scope="module", params=BACK_ENDS)
def lab(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    with running_lab(request, tmp_path_factory.mktemp("lab")) as running:
        yield running


def test_rca_report_sufficient_evidence(lab: Lab) -> None:
    lab.post_run(seed_body(1))

    report = lab.analyse("run-001-sufficient")

    assert (report["category"], report["insufficient_evidence"]) == ("tool_schema_mismatch", False)
    assert report["insufficient_reason"] is None
    assert report["hypotheses"][0]["evidence_ids"] == ["ev_tool_call-001", "ev_guard_guard-001"]
    assert all(hypothesis["verification_steps"] for hypothesis in report["hypotheses"])
    assert report["attribution"]["step_id"] == "step-002"
    assert uncited(report) == set()
    sent = seed_body(1).decode()
    assert all(item["snippet"] in sent for item in report["evidence_index"])


def test_rca_report_insufficient_evidence(lab: Lab) -> None:
    lab.post_run(seed_body(2))

    report = lab.analyse("run-002-insufficient")

    assert (report["category"], report["insufficient_evidence"]) == ("unknown", True)
    assert report["insufficient_reason"].startswith("Limited telemetry")
    assert (report["evidence_index"], report["hypotheses"], report["attribution"]) == ([], [], None)
    assert {action["title"] for action in report["action_items"]} == {
        "Enable detailed tracing",
        "Add structured error codes",
    }
