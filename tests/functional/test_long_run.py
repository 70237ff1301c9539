"""The server ingests, shows and analyses a run of 10,000 steps and 10,000 tool calls."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from typing import Any

import pytest

from support.lab.installation import Lab, running_lab, uncited
from support.telemetry.long_runs import rate_limited_run

pytestmark = pytest.mark.full
STEPS = 10_000


@pytest.fixture(params=["sqlite+embedded", pytest.param("postgres+rq", marks=pytest.mark.full)])
def lab(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    with running_lab(request, tmp_path_factory.mktemp("lab")) as running:
        yield running


def test_long_run_is_ingested_shown_and_analysed(lab: Lab, capsys: pytest.CaptureFixture[str]) -> None:
    run = rate_limited_run("long", steps=STEPS)

    receipt = lab.post_run(run)
    items = list(_timeline(lab, "long"))
    analysis = lab.finished(lab.request_analysis("long"))

    assert receipt["counts"] == {"steps": STEPS, "tool_calls": STEPS, "guardrail_events": 0}
    # The timeline is in order of time, with each call directly after its step.
    assert [item["ref_id"] for item in items] == [f"{kind}{index}" for index in range(STEPS) for kind in "sc"]
    assert [item["data"] for item in items[::2]] == run["steps"]
    assert [item["data"] for item in items[1::2]] == run["tool_calls"]
    assert analysis["status"] == "done", analysis["error"]
    report = analysis["report"]
    assert report["category"] == "rate_limited"
    assert report["attribution"]["call_id"] == f"c{STEPS - 1}"
    assert uncited(report) == set()
    took = datetime.fromisoformat(analysis["finished_at"]) - datetime.fromisoformat(analysis["started_at"])
    with capsys.disabled():
        print(f"\nanalysis of {STEPS:,} steps and {STEPS:,} calls: {took.total_seconds():.2f} s")


def _timeline(lab: Lab, agent_run_id: str) -> Iterator[dict[str, Any]]:
    cursor: dict[str, str] = {}
    while True:
        page = lab.get(f"/agent-runs/{agent_run_id}/timeline", limit=3_000, **cursor)
        assert page["total"] == 2 * STEPS
        yield from page["items"]
        if page["next_cursor"] is None:
            return
        cursor = {"cursor": page["next_cursor"]}
