"""Send the recorded telemetry of a framework to relab's OTLP endpoints, and read the runs from its public API."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import httpx

from rig.frameworks.receiver import PROTOBUF, Export
from rig.frameworks.recordings import trace_ids

ANALYSIS_TIMEOUT_S = 60.0
END_TIMEOUT_S = 60.0
ENDS_SOON = {"RELAB_TELEMETRY__INCOMPLETE_AFTER_S": "0.5", "RELAB_JOBS__SWEEP_INTERVAL_S": "0.5"}
"""Settings of a server that receives recordings: traces without an end must not wait for the default of 15 minutes."""
_STATUS_OUTCOMES = {"success": "succeeded", "failure": "failed"}
"""The outcome that a reader infers from the status of a run without an outcome."""


class ShownCall(NamedTuple):
    """A tool call as the timeline shows it; `skipped` if it was requested and never executed."""

    name: str
    agent: str | None
    failed: bool
    arguments: Any
    result: str | None
    error: str | None
    skipped: bool = False


class ShownRun(NamedTuple):
    """A run as the API shows it; if there are several traces, all of them together.

    Attributes:
        outcome: the outcome of the run that ended last.
        question, answer: the question of the run that began first, and the answer of the run that ended last.
        agents: the agents of the run with question, answer and outcome, as far as the API has them.
        tool_calls: the tool calls of the timeline.
        blamed: the tool call that the analysis blames; the text `model` for a model call; None if it blames neither.
        guardrails: type and message of each guardrail event.
        rejected: for each export that relab did not accept, its path with the status code.
    """

    outcome: str
    question: str | None
    answer: str | None
    agents: Sequence[dict[str, Any]]
    tool_calls: Sequence[ShownCall]
    blamed: ShownCall | str | None
    guardrails: Sequence[str]
    rejected: Sequence[str]


class NotShownError(Exception):
    """Relab shows no run for a trace, or the run or its analysis does not end; the message names the trace."""


def show(client: httpx.Client, exports: Sequence[Export]) -> ShownRun:
    """Send the exports to relab, and return the run that its API shows.

    Raises:
        NotShownError: a trace became no run, or the run or its analysis did not end.
    """
    rejected = []
    for export in exports:
        answer = client.post(export.path, content=export.body, headers={"Content-Type": PROTOBUF})
        if not answer.is_success:
            rejected.append(f"{export.path} {answer.status_code}")
    runs = sorted((_ended(client, trace_id) for trace_id in trace_ids(exports)), key=_start)
    items = [(run, item) for run in runs for item in _timeline(client, run["run_id"])]
    calls = {
        item["data"]["call_id"]: _call(item["data"], _agents_of_steps(items), run["agent_name"])
        for run, item in items
        if item["kind"] == "tool_call"
    }
    models = {item["data"]["step_id"] for _, item in items if item["data"].get("span_kind") == "llm"}
    return ShownRun(
        outcome=_outcome(runs[-1]),
        question=runs[0].get("question"),
        answer=runs[-1].get("answer"),
        agents=[_without_evidence(agent) for run in runs for agent in run.get("agents") or []],
        tool_calls=list(calls.values()),
        blamed=next((found for run in runs if (found := _blamed(client, run["run_id"], calls, models))), None),
        guardrails=[
            f"{item['data']['type']}: {item['data']['message']}"
            for _, item in items
            if item["kind"] == "guardrail_event"
        ],
        rejected=rejected,
    )


def _without_evidence(agent: dict[str, Any]) -> dict[str, Any]:
    """Return an agent without its evidence, which has ids that differ from run to run."""
    return {name: value for name, value in agent.items() if name != "outcome_evidence"}


def _get(client: httpx.Client, path: str, **query: Any) -> Any:
    answer = client.get(path, params=query)
    if not answer.is_success:
        raise NotShownError(f"GET {path} was answered with {answer.status_code}")
    return answer.json()


def _ended(client: httpx.Client, run_id: str) -> dict[str, Any]:
    """Return a run that has ended, or whose trace ended as incomplete."""
    deadline = time.monotonic() + END_TIMEOUT_S
    while (run := _get(client, f"/agent-runs/{run_id}"))["status"] == "running":
        if time.monotonic() > deadline:
            raise NotShownError(f"the run {run_id} has not ended after {END_TIMEOUT_S:.0f} s")
        time.sleep(0.05)
    found: dict[str, Any] = run
    return found


def _start(run: dict[str, Any]) -> str:
    return str(run["started_at"])


def _outcome(run: dict[str, Any]) -> str:
    outcome = run.get("outcome")
    if isinstance(outcome, dict):
        outcome = outcome["value"]
    return outcome or _STATUS_OUTCOMES.get(run["status"], "unknown")


def _timeline(client: httpx.Client, run_id: str) -> Iterator[dict[str, Any]]:
    yield from _get(client, f"/agent-runs/{run_id}/timeline", limit=10_000)["items"]


def _agents_of_steps(items: Sequence[tuple[Any, dict[str, Any]]]) -> dict[str, str | None]:
    steps = [item["data"] for _, item in items if item["kind"] == "step"]
    return {step["step_id"]: step.get("agent_name") for step in steps}


def _call(data: dict[str, Any], agents: dict[str, str | None], run_agent: str) -> ShownCall:
    return ShownCall(
        name=data["tool_name"],
        agent=data.get("agent_name") or agents.get(data.get("step_id") or "") or run_agent,
        failed=data["status"] == "failure",
        arguments=data.get("args_json"),
        result=data.get("result_summary"),
        error=data.get("error_message"),
        skipped=data["status"] == "skipped",
    )


def _blamed(client: httpx.Client, run_id: str, calls: dict[str, ShownCall], models: set[str]) -> ShownCall | str | None:
    attribution = _report(client, run_id)["attribution"] or {}
    if attribution.get("call_id") in calls:
        return calls[attribution["call_id"]]
    return "model" if attribution.get("step_id") in models else None


def _report(client: httpx.Client, run_id: str) -> Any:
    """Return the report of the analysis of a run."""
    requested = client.post(f"/agent-runs/{run_id}/rca-runs")
    if not requested.is_success:
        raise NotShownError(f"the analysis of {run_id} was answered with {requested.status_code}")
    deadline = time.monotonic() + ANALYSIS_TIMEOUT_S
    while time.monotonic() < deadline:
        found = _get(client, f"/agent-runs/rca-runs/{requested.json()['rca_run_id']}")
        if found["status"] == "done":
            return found["report"]
        if found["status"] == "failed":
            raise NotShownError(f"the analysis of {run_id} failed: {found['error']}")
        time.sleep(0.02)
    raise NotShownError(f"the analysis of {run_id} has not ended after {ANALYSIS_TIMEOUT_S:.0f} s")
