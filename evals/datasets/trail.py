"""TRAIL GAIA: OpenTelemetry traces of two agents that answer questions, with OpenInference attributes.

LLM, AGENT and CHAIN spans become steps, TOOL and RETRIEVER spans become tool calls, with their span ids. Spans without
a kind (the script around the agents) only link their children to their own parent.
The run's status comes from the trace. A run failed if the script around the agents, an outermost agent or a model call
of the script itself ended in an error, or if the last model call returned the sentence that its prompt prescribes for
giving up. Otherwise it succeeded, even if steps failed: the spans do not say whether the answer is right. The log
records next to the spans contain the true answer and an annotator's notes; only the task id is read from them.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from evals.datasets.source import Body, Record, Source, read_json

NAME = "trail-gaia"
GIVING_UP = "FINAL ANSWER: Unable to determine"
"""The answer that every prompt of this set prescribes for a question that the model cannot answer."""

STEP_KINDS = frozenset({"LLM", "AGENT", "CHAIN"})
CALL_KINDS = frozenset({"TOOL", "RETRIEVER"})
_DURATION = re.compile(r"PT(?:(?P<hours>\d+)H)?(?:(?P<minutes>\d+)M)?(?:(?P<seconds>\d+)(?:\.(?P<fraction>\d+))?S)?")
_INPUT_CONTENT = re.compile(r"llm\.input_messages\.(\d+)\.message\.content")
_MANAGED_NAME = re.compile(r"smolagents\.managed_agents\.\d+\.name")
_FIRST_OUTPUT = "llm.output_messages.0.message.content"


@dataclass(frozen=True)
class _Agent:
    name: str
    managed: tuple[str, ...]


@dataclass(frozen=True)
class _Place:
    """The current position of the walk over the spans: the enclosing step and agent."""

    step_id: str | None = None
    agent: _Agent | None = None
    outer: bool = True
    """Whether the position is outside of every step, where no agent can recover from an error."""


@dataclass
class _Walk:
    steps: list[Body] = field(default_factory=list)
    calls: list[Body] = field(default_factory=list)
    outer: list[Record] = field(default_factory=list)
    model_calls: list[Record] = field(default_factory=list)
    outermost: _Agent | None = None
    task_id: str | None = None


def agent_run_of_trace(trace: Record) -> Body:
    """Convert one trace (`trace_id`, one root in `spans`, nested `child_spans`) to the body of a run."""
    (root,) = trace["spans"]
    walk = _Walk()
    _visit(root, _Place(), walk)
    error = _run_error(walk)
    run: Body = {
        "run_id": trace["trace_id"],
        "trace_id": trace["trace_id"],
        "agent_name": walk.outermost.name if walk.outermost else root["service_name"],
        "environment": NAME,
        **_times(root),
        "status": "success" if error is None else "failure",
        "steps": walk.steps,
        "tool_calls": walk.calls,
        "cost": {
            "tokens_prompt": _tokens(walk.model_calls, "prompt"),
            "tokens_completion": _tokens(walk.model_calls, "completion"),
        },
    }
    if error is not None:
        run["error_type"], run["error_message"] = error
    models = [call["span_attributes"].get("llm.model_name") for call in walk.model_calls]
    run["model"] = next((model for model in models if model), None)
    run["task_id"] = walk.task_id
    return run


def _visit(span: Record, place: _Place, walk: _Walk) -> None:
    attributes = span["span_attributes"]
    kind = attributes.get("openinference.span.kind")
    agent = _agent(span, place.agent) if kind == "AGENT" else place.agent
    if place.outer:
        walk.outer.append(span)
    if kind == "AGENT" and walk.outermost is None:
        walk.outermost = agent
    if kind == "LLM":
        walk.model_calls.append(span)
    step_id = place.step_id
    if kind in STEP_KINDS:
        step_id = span["span_id"]
        walk.steps.append(_step(span, kind, agent, place.step_id))
    elif kind in CALL_KINDS:
        walk.calls.append(_call(span, place.step_id))
    walk.task_id = walk.task_id or _task_id(span)
    below = _Place(step_id, agent, outer=place.outer and kind is None)
    for child in span["child_spans"]:
        _visit(child, below, walk)


def _agent(span: Record, enclosing: _Agent | None) -> _Agent:
    """Return the agent of a span.

    Its name is its own attribute, or the only agent that its caller manages, or its class.
    """
    attributes = span["span_attributes"]
    managed = tuple(value for key, value in attributes.items() if _MANAGED_NAME.fullmatch(key))
    name = attributes.get("agent.name")
    if name is None and enclosing is not None and len(enclosing.managed) == 1:
        (name,) = enclosing.managed
    return _Agent(name or span["span_name"].removesuffix(".run"), managed)


def _step(span: Record, kind: str, agent: _Agent | None, parent: str | None) -> Body:
    step: Body = {
        "step_id": span["span_id"],
        "name": span["span_name"],
        "span_kind": kind,
        "parent_step_id": parent,
        "agent_name": agent.name if agent else None,
        **_ending(span),
        "input_summary": _input_text(span["span_attributes"]),
        "output_summary": _output_text(span["span_attributes"]),
    }
    return step


def _call(span: Record, step_id: str | None) -> Body:
    attributes = span["span_attributes"]
    return {
        "call_id": span["span_id"],
        "step_id": step_id,
        "tool_name": attributes.get("tool.name") or span["span_name"],
        **_ending(span),
        "args_json": _arguments(attributes.get("input.value")),
        "result_summary": attributes.get("output.value"),
    }


def _ending(span: Record) -> Body:
    """Return times, latency, status and error of a span."""
    error = _error(span)
    ending: Body = {**_times(span), "latency_ms": duration_of(span["duration"]) / timedelta(milliseconds=1)}
    ending["status"] = "success" if error is None else "failure"
    if error is not None:
        ending["error_class"], ending["error_message"] = error
    return ending


def _error(span: Record) -> tuple[str | None, str] | None:
    """Return class and message of a span's error, from its last exception event, else its status; None without one.

    An exception counts even if the status is Ok, because a status can be overwritten.
    """
    exceptions = [event["Attributes"] for event in span["events"] if event["Name"] == "exception"]
    if exceptions:
        return exceptions[-1].get("exception.type"), exceptions[-1].get("exception.message", "")
    return (None, span["status_message"]) if span["status_code"] == "Error" else None


def _run_error(walk: _Walk) -> tuple[str | None, str] | None:
    for span in walk.outer:
        error = _error(span)
        if error is not None:
            return error
    if walk.model_calls:
        last = max(walk.model_calls, key=lambda span: datetime.fromisoformat(span["timestamp"]))
        answer = last["span_attributes"].get(_FIRST_OUTPUT, "").strip()
        if answer == GIVING_UP:
            return None, answer
    return None


def _times(span: Record) -> Body:
    start = datetime.fromisoformat(span["timestamp"])
    return {"started_at": start.isoformat(), "ended_at": (start + duration_of(span["duration"])).isoformat()}


def duration_of(text: str) -> timedelta:
    """Parse an ISO 8601 duration of hours, minutes and seconds, with a precision of a microsecond.

    Raises:
        ValueError: the text is not such a duration.
    """
    match = _DURATION.fullmatch(text)
    if match is None or text == "PT":
        raise ValueError(f"{text!r} is not an ISO 8601 duration such as PT1M24.635189S")
    part = match.groupdict(default="0")
    return timedelta(
        hours=int(part["hours"]),
        minutes=int(part["minutes"]),
        seconds=int(part["seconds"]),
        microseconds=int(part["fraction"][:6].ljust(6, "0")),
    )


def _input_text(attributes: Record) -> str | None:
    """Return the input of a step; of a model call only its newest message, because the others are earlier inputs."""
    numbers = [int(match[1]) for key in attributes if (match := _INPUT_CONTENT.fullmatch(key))]
    if numbers:
        return str(attributes[f"llm.input_messages.{max(numbers)}.message.content"])
    value: str | None = attributes.get("input.value")
    return value


def _output_text(attributes: Record) -> str | None:
    text: str | None = attributes.get(_FIRST_OUTPUT) or attributes.get("output.value")
    return text


def _arguments(text: str | None) -> Any:
    """Return the arguments of a call: keyword arguments by name, positional ones as the list `args`."""
    if text is None:
        return None
    try:
        value = json.loads(text)
    except ValueError:
        return text
    if not isinstance(value, dict) or "kwargs" not in value:
        return value
    named: dict[str, Any] = dict(value["kwargs"])
    return {"args": value["args"], **named} if value.get("args") else named


def _tokens(model_calls: list[Record], side: str) -> int:
    """Sum the tokens of model calls only, because agent spans repeat the sums of the spans below them."""
    return sum(int(span["span_attributes"].get(f"llm.token_count.{side}", 0)) for span in model_calls)


def _task_id(span: Record) -> str | None:
    for log in span["logs"]:
        example = log["body"].get("function.arguments", {}).get("example", {})
        if "task_id" in example:
            return str(example["task_id"])
    return None


def read(folder: Path) -> Iterator[Body]:
    """Yield the run of every trace in the folder."""
    for path in sorted((folder / "traces").glob("*.json")):
        yield agent_run_of_trace(read_json(path))


SOURCE = Source(NAME, expected=113, read=read)
