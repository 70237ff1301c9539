"""The overview of runs, compared with a brute-force count, and the Prometheus metrics of the API."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.parser import text_string_to_metric_families
from starlette.testclient import TestClient

from relab.bootstrap import Services
from relab.core.clock import parse_time
from relab.telemetry.models import AgentRun
from relab.telemetry.outcome import activities_of, outcome_of
from support.api.client import at_time, run_jobs, running_api
from support.clocks import MovableClock
from support.telemetry.runs import RunBody, examples, failed_run, minimal_run, step, time_text, tool_call

MINUTE_US = 60_000_000
NOW_US = parse_time(time_text(24 * 3_600))
OF_THE_SEED = {"total_runs", "success_rate", "top_failing_tools", "p95_step_latency_ms", "total_cost_usd"}
FIELDS = OF_THE_SEED | {
    "outcomes", "runs_without_cost", "estimated_cost_usd", "prices_as_of", "runs_without_estimate", "tokens",
    "unprojected_runs",
}  # fmt: skip
NO_TOKENS = {"prompt": None, "cached": None, "cache_write": None, "completion": None, "reasoning": None}
OUTCOMES = ("succeeded", "completed_with_errors", "failed", "unknown")


@pytest.fixture
def frozen(services: Services) -> Iterator[tuple[TestClient, MovableClock]]:
    """A separate installation whose clock is stopped one day after the start of the sample runs."""
    clock = MovableClock(NOW_US)
    with running_api(at_time(services, clock)) as client:
        yield client, clock


def overview(api: TestClient, **query: Any) -> dict[str, Any]:
    response = api.get("/metrics/overview", params=query)
    assert response.status_code == 200, response.text
    figures: dict[str, Any] = response.json()
    assert set(figures) == FIELDS
    return figures


def expected(bodies: list[RunBody], hours: float) -> dict[str, Any]:
    """Return the figures of the overview, counted from the posted bodies as the documentation defines them."""
    since = NOW_US - int(hours * 3_600_000_000)
    first, end = since - since % MINUTE_US, NOW_US - NOW_US % MINUTE_US + MINUTE_US
    inside = [body for body in bodies if first <= parse_time(body["started_at"]) < end]
    costs = [cost for body in inside if (cost := body["cost"]["total_cost_usd"]) is not None]
    outcomes = Counter(outcome_of_posted(body) for body in inside)
    over = len(inside) - outcomes["unknown"]
    failures = Counter(
        call["tool_name"] for body in inside for call in body["tool_calls"] if call["status"] == "failure"
    )
    latencies = sorted(
        item["latency_ms"] for body in inside for item in body["steps"] if item["latency_ms"] is not None
    )
    return {
        "total_runs": len(inside),
        "success_rate": round(100 * outcomes["succeeded"] / over, 2) if over else None,
        "top_failing_tools": [
            {"tool": tool, "count": count}
            for tool, count in sorted(failures.items(), key=lambda item: (-item[1], item[0]))[:10]
        ],
        "p95_step_latency_ms": latencies[math.ceil(0.95 * len(latencies)) - 1] if latencies else None,
        "total_cost_usd": pytest.approx(sum(costs), abs=1e-6) if costs else None,
        "outcomes": {outcome: outcomes[outcome] for outcome in OUTCOMES},
        "runs_without_cost": len(inside) - len(costs),
        "estimated_cost_usd": None,
        "prices_as_of": None,
        "runs_without_estimate": len(inside) - len(costs),
        "tokens": NO_TOKENS,
        "unprojected_runs": 0,
    }


def outcome_of_posted(body: RunBody) -> str:
    run = AgentRun.model_validate(body)
    return outcome_of(run, activities_of(run)).value


@st.composite
def measured_runs(draw: st.DrawFn) -> list[RunBody]:
    bodies = []
    for number in range(draw(st.integers(0, 6))):
        tools = st.sampled_from([f"tool-{letter}" for letter in "abcdefghijklm"])
        calls = draw(st.lists(st.tuples(tools, st.sampled_from(["success", "failure", "failure"])), max_size=8))
        latencies = draw(st.lists(st.none() | st.integers(0, 100) | st.floats(0, 1e4), max_size=6))
        hours_ago = draw(st.sampled_from([0, 0.5, 1, 1.01, 2, 23.5, 24, 24.01, 24.02, -0.001, -0.02]))
        bodies.append(
            minimal_run(
                f"m{number}",
                started_at=time_text((24 - hours_ago) * 3_600),
                status=draw(st.sampled_from(["success", "failure", "running", "cancelled"])),
                steps=[step(f"s{index}", latency_ms=latency) for index, latency in enumerate(latencies)],
                tool_calls=[
                    tool_call(f"c{index}", tool_name=tool, status=status) for index, (tool, status) in enumerate(calls)
                ],
                cost={"total_cost_usd": draw(st.none() | st.floats(0, 10))},
            )
        )
    return bodies


@given(bodies=measured_runs(), hours=st.sampled_from([0.25, 1, 2, 24, 1e6]))
@examples(20)
def test_overview_equals_a_brute_force_count(
    frozen: tuple[TestClient, MovableClock], bodies: list[RunBody], hours: float
) -> None:
    api, _ = frozen
    for body in bodies:
        assert api.post("/agent-runs", json=body).status_code == 201
    try:
        assert overview(api, hours=hours) == expected(bodies, hours)
    finally:
        for body in bodies:
            api.delete(f"/agent-runs/{body['run_id']}")


def test_the_percentile_of_many_steps_is_within_one_percent(frozen: tuple[TestClient, MovableClock]) -> None:
    api, _ = frozen
    latencies = [1.37**number for number in range(30)] * 100
    body = minimal_run("long", steps=[step(f"s{index}", latency_ms=latency) for index, latency in enumerate(latencies)])
    assert api.post("/agent-runs", json=body).status_code == 201

    exact = sorted(latencies)[math.ceil(0.95 * len(latencies)) - 1]
    assert overview(api, hours=10_000_000)["p95_step_latency_ms"] == pytest.approx(exact, rel=0.01)


def test_no_runs_give_empty_figures(frozen: tuple[TestClient, MovableClock]) -> None:
    assert overview(frozen[0]) == {
        "total_runs": 0,
        "success_rate": None,
        "top_failing_tools": [],
        "p95_step_latency_ms": None,
        "total_cost_usd": None,
        "outcomes": dict.fromkeys(OUTCOMES, 0),
        "runs_without_cost": 0,
        "estimated_cost_usd": None,
        "prices_as_of": None,
        "runs_without_estimate": 0,
        "tokens": NO_TOKENS,
        "unprojected_runs": 0,
    }


def test_default_window_is_the_last_24_hours(frozen: tuple[TestClient, MovableClock]) -> None:
    api, clock = frozen
    api.post("/agent-runs", json=failed_run("r"))

    assert overview(api)["total_runs"] == 1
    clock.us += MINUTE_US - 1
    assert overview(api)["total_runs"] == 1, "the window begins with a whole minute"
    clock.us += 1
    assert overview(api)["total_runs"] == 0
    assert overview(api, hours=25)["total_runs"] == 1
    assert overview(api, hours=10_000_000)["total_runs"] == 1
    clock.us = parse_time(time_text(-1))
    assert overview(api, hours=24)["total_runs"] == 0, "a run of the future is not of the last hours"


def test_an_updated_run_counts_once(frozen: tuple[TestClient, MovableClock]) -> None:
    api, _ = frozen
    api.post("/agent-runs", json=failed_run("r"))
    api.post("/agent-runs", json=failed_run("r", status="success", tool_calls=[], cost={"total_cost_usd": 1}))

    figures = overview(api)
    assert figures["total_runs"] == 1
    assert figures["success_rate"] == 100
    assert figures["total_cost_usd"] == 1
    assert figures["top_failing_tools"] == []


def scrape(api: TestClient) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    response = api.get("/metrics")
    assert response.status_code == 200
    assert response.headers["content-type"].startswith("text/plain")
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(response.text)
        for sample in family.samples
    }


def test_metrics_count_requests_jobs_and_analyses(services: Services) -> None:
    with running_api(services) as api:
        api.post("/agent-runs", json=failed_run("r"))
        api.post("/agent-runs", json=failed_run("r"))
        api.get("/agent-runs/r")
        api.get("/agent-runs/unknown")
        api.get("/nowhere/at/all")
        api.request("BREW", "/agent-runs")
        api.post("/agent-runs/r/rca-runs")
        waiting = scrape(api)
        run_jobs(services)
        samples = scrape(api)

    def requests(method: str, route: str, status: int) -> float:
        labels = (("method", method), ("route", route), ("status", str(status)))
        return samples["relab_http_requests_total", labels]

    assert requests("POST", "/agent-runs", 201) == 1
    assert requests("POST", "/agent-runs", 200) == 1
    assert requests("GET", "/agent-runs/{run_id}", 200) == 1
    assert requests("GET", "/agent-runs/{run_id}", 404) == 1
    assert requests("GET", "unmatched", 404) == 1
    assert requests("other", "/agent-runs", 405) == 1
    assert waiting["relab_jobs", (("status", "pending"),)] == 1
    assert samples["relab_jobs", (("status", "pending"),)] == 0
    assert samples["relab_jobs", (("status", "done"),)] == 2
    assert samples["relab_agent_runs_ingested_total", (("outcome", "created"),)] == 1
    assert samples["relab_agent_runs_ingested_total", (("outcome", "updated"),)] == 1
    assert samples["relab_rca_runs", (("category", "tool_schema_mismatch"), ("status", "done"))] == 1
    assert samples["relab_progress_followers", ()] == 0
    assert not any("unknown" in str(key) or "at/all" in str(key) for key in samples), "paths are no labels"
