"""tau2-bench: dialogues of four models with a customer of a shop (retail) or of a telephone company (telecom).

A simulation becomes a run: each message of the agent is a step, each result of its tools a tool call. What the customer
does on a telephone of its own is left out, because the agent does not see it. The outcome, the gold actions and the
hidden instruction of the simulated customer stay out of the body. The times are not used: see `synthetic_clock`.

No person labelled where a failed dialogue first went wrong. `first_wrong_turn` computes it from the gold actions.
"""

from __future__ import annotations

import json
from collections import Counter
from typing import Any, Final

from evals.datasets.source import Body, Record
from evals.datasets.synthetic_clock import moment

AGENT: Final = "assistant"

WRITES: Final = frozenset(
    {
        "cancel_pending_order",
        "exchange_delivered_order_items",
        "modify_pending_order_address",
        "modify_pending_order_items",
        "modify_pending_order_payment",
        "modify_user_address",
        "return_delivered_order_items",
        "disable_roaming",
        "enable_roaming",
        "refuel_data",
        "resume_line",
        "send_payment_request",
        "suspend_line",
    }
)
"""The agent's tools that change the database."""

HAND_OVER: Final = "transfer_to_human_agents"


def run_of_simulation(record: Record) -> Body:
    """Convert a simulation to the body of a run, in which each message of the agent is a step."""
    messages: list[Record] = record["messages"]
    return {**_run(record), "steps": _agent_steps(messages), "tool_calls": _tool_calls(messages)}


def messages_of_simulation(record: Record) -> Body:
    """Convert a simulation to the body of a run, in which each message is a step of its role."""
    messages: list[Record] = record["messages"]
    steps = [
        step_of_entry(index, entry["role"], entry["role"], entry["content"])
        for index, entry in enumerate(messages)
        if not _is_of_customer_device(entry)
    ]
    return {**_run(record), "steps": steps, "tool_calls": _tool_calls(messages)}


def first_wrong_turn(record: Record, gold: list[Record]) -> str:
    """Return the id of the step at which a failed dialogue left its gold actions (`gold`).

    It is the first of these:

    - the first successful call of `WRITES` that is not among the gold actions, or more often than there.
    - the hand-over to a person, if it is not a gold action.
    - the last message of the agent, which ends the dialogue without a gold action or gives a wrong answer.
    """
    messages: list[Record] = record["messages"]
    failed = {entry["id"] for entry in messages if entry["role"] == "tool" and entry["error"]}
    wanted = Counter(_action(action) for action in gold if action["requestor"] == AGENT)
    can_hand_over = any(action["name"] == HAND_OVER for action in gold)
    for index, entry in enumerate(messages):
        for call in (entry.get("tool_calls") or []) if entry["role"] == AGENT else ():
            if call["name"] == HAND_OVER and not can_hand_over:
                return f"turn-{index}"
            if call["name"] in WRITES and call["id"] not in failed:
                wanted[_action(call)] -= 1
                if wanted[_action(call)] < 0:
                    return f"turn-{index}"
    return f"turn-{max(index for index, entry in enumerate(messages) if entry['role'] == AGENT)}"


def _action(call: Record) -> str:
    """Return a text that is equal for calls with the same effect, such as `2` and `2.0` gigabytes of data.

    The order of the items of an order has no effect.
    """
    arguments = {name: _plain(value) for name, value in call["arguments"].items()}
    return json.dumps([call["name"], arguments], sort_keys=True)


def _plain(value: Any) -> Any:
    if isinstance(value, list):
        return sorted(value)
    return float(value) if isinstance(value, int) else value


def _is_of_customer_device(entry: Record) -> bool:
    by_tool = entry["role"] == "tool" and entry["requestor"] != AGENT
    return by_tool or (entry["role"] == "user" and bool(entry.get("tool_calls")))


def _run(record: Record) -> Body:
    return {
        "run_id": f"tau2-{record['id']}",
        "agent_name": AGENT,
        "environment": "tau2-bench",
        "started_at": moment(0),
        "status": "failure" if record["reward_info"]["reward"] < 1 else "success",
        "task_id": f"tau2-{record['task_id']}"[:100],
    }


def step_of_entry(index: int, name: str, agent: str, text: str | None) -> Body:
    """Return the step of the entry with the number `index`, from 0, of a log: its text is the step's output."""
    return {
        "step_id": f"turn-{index}",
        "name": name,
        "agent_name": agent,
        "status": "success",
        "started_at": moment(index),
        "output_summary": text or None,
    }


def _agent_steps(messages: list[Record]) -> list[Body]:
    steps: list[Body] = []
    asked: str | None = None
    for index, entry in enumerate(messages):
        if entry["role"] == "user" and entry["content"]:
            asked = entry["content"]
        elif entry["role"] == AGENT:
            calls = entry.get("tool_calls") or []
            step = step_of_entry(index, f"call {calls[0]['name']}" if calls else "reply", AGENT, entry["content"])
            steps.append({**step, "input_summary": asked})
            asked = None
    return steps


def _tool_calls(messages: list[Record]) -> list[Body]:
    requests = {
        call["id"]: (index, call)
        for index, entry in enumerate(messages)
        if entry["role"] == AGENT
        for call in entry.get("tool_calls") or []
    }
    answers = [(index, entry) for index, entry in enumerate(messages) if entry["role"] == "tool"]
    return [
        _tool_call(index, entry, *requests[entry["id"]])
        for index, entry in answers
        if entry["requestor"] == AGENT and entry["id"] in requests
    ]


def _tool_call(index: int, answer: Record, turn: int, call: Record) -> Body:
    body: Body = {
        "call_id": f"call-{index}",
        "step_id": f"turn-{turn}",
        "tool_name": call["name"],
        "status": "failure" if answer["error"] else "success",
        "args_json": call["arguments"],
        "result_summary": answer["content"],
        "started_at": moment(index),
    }
    return {**body, "error_message": answer["content"]} if answer["error"] else body
