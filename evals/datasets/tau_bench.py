"""tau-bench airline: trials of an agent that calls tools, each with a reward.

A trial becomes a run: each assistant message is a step, each tool message a tool call. The outcome is the trial's
reward (1 is success), which the benchmark measures on the final database; the gold actions, the hidden instruction of
the simulated user and the details of the reward stay out of the body. The log has no times: see `synthetic_clock`.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path

from evals.datasets.source import Body, Record, Source, read_json
from evals.datasets.synthetic_clock import moment

NAME = "tau-bench-airline"
CONTROL = "tau-bench-control"
AGENT = "airline-agent"
MODEL = "gpt-4o"
"""The log names its model only in its file name."""

ERROR_PREFIX = "Error: "
"""The prefix of a result with which the benchmark's tools reject a call."""


def agent_run_of_trial(record: Record) -> Body:
    """Convert one trial (`task_id`, `trial`, `reward`, `traj`) to the body of a run."""
    messages: list[Record] = record["traj"]
    return {
        "run_id": f"tau-airline-{record['task_id']}-{record['trial']}",
        "agent_name": AGENT,
        "model": MODEL,
        "environment": NAME,
        "started_at": moment(0),
        "status": "success" if record["reward"] == 1 else "failure",
        "task_id": f"tau-airline-{record['task_id']}",
        "prompt_hash": _prompt_hash(messages),
        "steps": [_step(messages, index) for index, entry in enumerate(messages) if entry["role"] == "assistant"],
        "tool_calls": [_tool_call(messages, index) for index, entry in enumerate(messages) if entry["role"] == "tool"],
    }


def report_failed(body: Body) -> Body:
    """Return a copy of a successful run with the status failure, a new id and the control environment.

    The analyser names no cause for a run that is reported as successful, so successful runs cannot measure its false
    alarms. With the inverted status, every cause that it names is a false alarm, because the run did not fail.
    """
    return {**body, "run_id": f"{body['run_id']}-told-failed", "environment": CONTROL, "status": "failure"}


def _prompt_hash(messages: list[Record]) -> str | None:
    prompts = [entry["content"] for entry in messages if entry["role"] == "system"]
    return "sha256:" + hashlib.sha256(prompts[0].encode()).hexdigest() if prompts else None


def _step(messages: list[Record], index: int) -> Body:
    """Convert an assistant message to a step; the user message directly before it is its input.

    A tool result before it is not repeated as input, because it is already the result of its
    tool call.
    """
    entry = messages[index]
    before = messages[index - 1] if index else None
    requested = entry.get("tool_calls") or []
    step: Body = {
        "step_id": f"turn-{index}",
        "name": f"call {requested[0]['function']['name']}" if requested else "reply",
        "status": "success",
        "started_at": moment(index),
        "agent_name": AGENT,
        "output_summary": entry["content"],
    }
    if before is not None and before["role"] == "user":
        step["input_summary"] = before["content"]
    return step


def _tool_call(messages: list[Record], index: int) -> Body:
    """Convert a tool message, which answers the assistant message before it, to a tool call.

    The log reuses tool call ids within a trial, so the call's id is its position; the logged
    id is kept as `tool_call_id`.
    """
    entry = messages[index]
    request = messages[index - 1]["tool_calls"][0]["function"]
    result: str = entry["content"]
    refused = result.startswith(ERROR_PREFIX)
    call: Body = {
        "call_id": f"call-{index}",
        "step_id": f"turn-{index - 1}",
        "tool_name": request["name"],
        "status": "failure" if refused else "success",
        "args_json": json.loads(request["arguments"]),
        "result_summary": result,
        "started_at": moment(index),
        "tool_call_id": entry["tool_call_id"],
    }
    if refused:
        call["error_message"] = result
    return call


def read(folder: Path) -> Iterator[Body]:
    """Yield the run of every trial in the folder's log."""
    for record in read_json(folder / "gpt-4o-airline.json"):
        yield agent_run_of_trial(record)


SOURCE = Source(NAME, expected=200, read=read)
