"""tau-bench airline: trials of an agent that calls tools, each with a reward.

A trial becomes a run: each assistant message is a step, each tool message a tool call. The outcome is the trial's
reward (1 is success), which the benchmark measures on the final database; the gold actions, the hidden instruction of
the simulated user and the details of the reward stay out of the body. The log has no times: see `synthetic_clock`.

No person labelled where these trials first went wrong. `first_wrong_turn` computes it from the gold actions.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from evals.datasets.source import Body, Record, Source, read_json
from evals.datasets.synthetic_clock import moment

NAME = "tau-bench-airline"
CONTROL = "tau-bench-control"
MESSAGES = "tau-bench-messages"
AGENT = "airline-agent"
MODEL = "gpt-4o"
"""The log names its model only in its file name."""

WRITES = frozenset(
    {
        "book_reservation",
        "cancel_reservation",
        "send_certificate",
        "update_reservation_baggages",
        "update_reservation_flights",
        "update_reservation_passengers",
    }
)
"""The tools that change the database."""

HAND_OVER = "transfer_to_human_agents"
"""The tool that ends a trial."""

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


def messages_of_trial(record: Record) -> Body:
    """Convert one trial to the body of a run in which each message is a step, and its role is the agent."""
    body = agent_run_of_trial(record)
    steps: list[Body] = [
        {
            "step_id": f"turn-{index}",
            "name": entry["role"],
            "status": "success",
            "started_at": moment(index),
            "agent_name": entry["role"],
            "output_summary": entry["content"],
        }
        for index, entry in enumerate(record["traj"])
        if entry["role"] != "system"
    ]
    return {**body, "run_id": f"{body['run_id']}-messages", "environment": MESSAGES, "steps": steps}


def first_wrong_turn(record: Record) -> str:
    """Return the id of the step at which a failed trial left its gold actions.

    It is the first of these:

    - the first successful call of `WRITES` that is not among the gold actions, or more often than there.
    - the hand-over to a person.
    - the last message of the agent, which ends the trial without a gold action or gives a wrong answer.
    """
    messages: list[Record] = record["traj"]
    wanted = Counter(_action(action["name"], action["kwargs"]) for action in record["info"]["task"]["actions"])
    for turn, request in _requests(messages):
        name = request["name"]
        if name == HAND_OVER:
            return f"turn-{turn}"
        failed = turn + 1 < len(messages) and messages[turn + 1]["content"].startswith(ERROR_PREFIX)
        action = _action(name, json.loads(request["arguments"]))
        if name in WRITES and not failed:
            wanted[action] -= 1
            if wanted[action] < 0:
                return f"turn-{turn}"
    return f"turn-{max(index for index, entry in enumerate(messages) if entry['role'] == 'assistant')}"


def report_failed(body: Body) -> Body:
    """Return a copy of a successful run with the status failure, a new id and the control environment.

    The analyser names no cause for a run that is reported as successful, so successful runs cannot measure its false
    alarms. With the inverted status, every cause that it names is a false alarm, because the run did not fail.
    """
    return {**body, "run_id": f"{body['run_id']}-told-failed", "environment": CONTROL, "status": "failure"}


def _requests(messages: list[Record]) -> Iterator[tuple[int, Record]]:
    """Yield `(index of a message, function that it calls)` for the messages of the agent that call a tool."""
    for index, entry in enumerate(messages):
        if entry["role"] == "assistant" and entry.get("tool_calls"):
            yield index, entry["tool_calls"][0]["function"]


def _action(name: str, arguments: Any) -> str:
    return json.dumps([name, arguments], sort_keys=True)


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
