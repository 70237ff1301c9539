"""The client of the lab's API, against scripted responses."""

from __future__ import annotations

import json

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from demo.lab_client import LabClient, LabError, Stage, event_data


def lab_answering(handler):
    return LabClient("http://lab", transport=httpx.MockTransport(handler))


def stream_of(*events, extra=""):
    body = "".join(f"id: {number}\ndata: {json.dumps(event)}\n\n" for number, event in enumerate(events)) + extra
    return lab_answering(lambda _request: httpx.Response(200, text=body, headers={"Content-Type": "text/event-stream"}))


def event(status, pct, step="Collecting evidence"):
    return {"status": status, "step": step, "pct": pct, "message": step, "updated_at": "2024-01-15T10:31:00Z"}


LINE = st.text(st.characters(exclude_characters="\r\n", exclude_categories=["Cs"]))


@given(
    st.lists(st.lists(LINE, min_size=1, max_size=3), max_size=5), st.sampled_from(["", ": heartbeat\n\n", "id: 4\n"])
)
def test_event_data_is_unchanged(events, noise):
    sent = "".join(noise + "".join(f"data: {line}\n" for line in lines) + "\n" for lines in events)
    assert list(event_data(sent.split("\n"))) == ["\n".join(lines) for lines in events]


def test_truncated_event_is_ignored():
    assert list(event_data(["data: whole", "", "data: half"])) == ["whole"]


def test_following_yields_each_stage_and_stops_at_the_end():
    with stream_of(event("running", 5), event("running", 55), event("done", 100), event("running", 1)) as lab:
        stages = list(lab.follow("rca-1"))
    assert [(stage.status, stage.pct) for stage in stages] == [("running", 5), ("running", 55), ("done", 100)]
    assert stages[0] == Stage("running", "Collecting evidence", 5, "Collecting evidence")


def test_a_failed_analysis_is_an_error_after_its_last_stage():
    with stream_of(event("running", 5), event("failed", 55, "no memory")) as lab:
        seen = []
        with pytest.raises(LabError, match="rca-1 failed: no memory"):
            seen.extend(stage.pct for stage in lab.follow("rca-1"))


def test_a_stream_that_breaks_off_is_an_error():
    with stream_of(event("running", 5)) as lab, pytest.raises(LabError, match="rca-1 ended"):
        list(lab.follow("rca-1"))


def test_problem_document_is_quoted_in_the_error():
    problem = {"type": "about:blank", "title": "Not Found", "status": 404, "detail": "No run has the id 'x/y'."}

    def answer(request):
        assert request.url.raw_path == b"/agent-runs/x%2Fy/rca-runs"
        return httpx.Response(404, json=problem, headers={"Content-Type": "application/problem+json"})

    with lab_answering(answer) as lab, pytest.raises(LabError, match=r"404: .*'x/y'"):
        lab.request_rca("x/y")


def test_error_of_the_stream_is_raised():
    with (
        lab_answering(lambda _request: httpx.Response(503, text="too busy")) as lab,
        pytest.raises(LabError, match="503: too busy"),
    ):
        list(lab.follow("rca-1"))


def test_an_analysis_without_a_report_is_an_error():
    body = {"status": "failed", "error": "it broke", "report": None}
    with (
        lab_answering(lambda _request: httpx.Response(200, json=body)) as lab,
        pytest.raises(LabError, match="it broke"),
    ):
        lab.report("rca-1")


def test_a_run_is_posted_and_its_analysis_requested():
    seen = []

    def answer(request):
        seen.append((request.method, request.url.path, request.content))
        return httpx.Response(202, json={"rca_run_id": "rca-9"})

    with lab_answering(answer) as lab:
        lab.ingest({"run_id": "r"})
        assert lab.request_rca("r") == "rca-9"
    assert seen[0][:2] == ("POST", "/agent-runs")
    assert json.loads(seen[0][2]) == {"run_id": "r"}
    assert seen[1][:2] == ("POST", "/agent-runs/r/rca-runs")
