"""The true facts of a run of a program: from the program, its tools and the model server, never from the telemetry.

Afterwards the telemetry is searched for each fact, and facts that it does not contain are listed: a reader of the
telemetry cannot be expected to know them.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from typing import Any

from rig.frameworks.cases import (
    CASES,
    SESSION_ID,
    USER_ID,
    Ask,
    AskAll,
    Case,
    HandOver,
    Refuse,
    Say,
    TrueOutcome,
    Wait,
)
from rig.frameworks.catalogue import Framework
from rig.frameworks.model_server import ModelCall
from rig.frameworks.receiver import Export
from rig.frameworks.recordings import message_of, texts_of
from rig.frameworks.running import Ran

Facts = dict[str, Any]

_MARKS = re.compile(r"[\s\\\"']")


def facts_of(framework: Framework, case_name: str, ran: Ran, exports: Sequence[Export]) -> Facts:
    """Return the facts of a run, as in `expected.json`.

    The field `not_in_trace` lists the facts that the exports do not contain, by paths such as `tool_calls.0.result`;
    they include the facts in `framework.lost`.

    Args:
        framework: the framework of the run.
        case_name: the name of the case in `CASES`.
        ran: the run.
        exports: the exports of the run, as they are recorded.
    """
    case = CASES[case_name]
    was_cancelled = case.outcome is TrueOutcome.UNKNOWN
    outcome = TrueOutcome.FAILED if ran.answer is None and not was_cancelled else case.outcome
    refused = next((call.turn for call in ran.model_calls if isinstance(call.turn, Refuse)), None)
    facts: Facts = {
        "question": next(iter(case.questions.values())) if len(case.questions) == 1 else None,
        "answer": ran.answer if isinstance(ran.answer, str) else None,
        "outcome": outcome,
        "blamed": _blamed(case),
        "raised": ran.raised,
        "provider_error": None
        if refused is None
        else {"status_code": refused.status, "retry_after_s": refused.retry_after_s, "message": refused.message},
        "session_id": SESSION_ID,
        "user_id": USER_ID,
        "agents": [_agent(name, case, ran, outcome) for name in case.turns if _acted(name, ran)],
        "tool_calls": list(_tool_calls(ran, was_cancelled=was_cancelled)),
        "model_calls": [_model_call(call) for call in ran.model_calls],
        "handoffs": [
            {"from": call.agent, "to": call.turn.to} for call in ran.model_calls if isinstance(call.turn, HandOver)
        ],
    }
    if case.guardrail is not None:
        facts["guardrail"] = case.guardrail
    facts["not_in_trace"] = [*framework.lost.get(case_name, ()), *_not_sent(facts, exports)]
    if not framework.has_tool_spans:
        facts["not_in_trace"] += _results_that_no_model_saw(ran)
    return facts


def _not_sent(facts: Facts, exports: Sequence[Export]) -> list[str]:
    """Return the names of the facts that no text or number of the exports contains."""
    texts = [text for export in exports for text in texts_of(message_of(export))]
    # A stack trace quotes source lines, whose names and texts the program never sent as telemetry.
    sent = "\n".join(text for text in texts if not text.startswith("Traceback"))
    numbers = {int(number) for number in re.findall(r"\b\d+", sent)}
    sent = squeezed(sent)
    return [
        name
        for name, needle in _needles(facts)
        if not (needle in numbers if isinstance(needle, int) else squeezed(needle) in sent)
    ]


def _results_that_no_model_saw(ran: Ran) -> Iterator[str]:
    """Yield the paths of tool results that no message has, because the agent did not call its model again."""
    asking = [number for number, call in enumerate(ran.model_calls) for _ in _asks(call)]
    for index, number in enumerate(asking):
        agent = ran.model_calls[number].agent
        if all(later.agent != agent for later in ran.model_calls[number + 1 :]):
            yield from (f"tool_calls.{index}.{name}" for name in ("result", "error"))


def _acted(agent: str, ran: Ran) -> bool:
    return any(call.agent == agent for call in ran.model_calls)


def _blamed(case: Case) -> Facts | None:
    if case.blamed is None:
        return None
    kind = "model" if case.blamed == "model" else "tool"
    return {"kind": kind, "name": None if kind == "model" else case.blamed, "agent": case.blamed_agent}


def _agent(name: str, case: Case, ran: Ran, outcome: TrueOutcome) -> Facts:
    said = [call.turn.text for call in ran.model_calls if call.agent == name and isinstance(call.turn, Say)]
    tasks = [
        call.turn.task
        for call in ran.model_calls
        if isinstance(call.turn, HandOver)
        and call.turn.to == name
        and call.asked
        # Some frameworks hand over the conversation, which contains no task.
        and call.turn.task in call.asked[0].arguments.values()
    ]
    question = tasks[0] if tasks else case.questions.get(name, next(iter(case.questions.values())))
    return {
        "name": name,
        "question": question,
        "answer": said[-1] if said else None,
        "outcome": case.agent_outcomes.get(name, outcome),
    }


def _tool_calls(ran: Ran, *, was_cancelled: bool) -> Iterator[Facts]:
    """Yield the tool calls that the models asked for, each with the result or error that its tool logged.

    A call without either did not reach its tool, or was cancelled, which is no failure.
    """
    left = list(ran.tool_runs)
    for call in ran.model_calls:
        for ask in _asks(call):
            run = next((run for run in left if (run["tool"], run["arguments"]) == (ask.tool, ask.arguments)), None)
            if run is not None:
                left.remove(run)
            yield {
                "name": ask.tool,
                "agent": call.agent,
                "arguments": dict(ask.arguments),
                "result": None if run is None else run.get("result"),
                "error": None if run is None else run.get("error"),
                "reached_tool": run is not None,
                "failed": not was_cancelled if run is None else "error" in run,
            }


def _asks(call: ModelCall) -> Sequence[Ask]:
    """Return the calls of tools that a call of the model asked for; empty if its framework offered no tool."""
    if not call.asked:
        return ()
    return call.turn.calls if isinstance(call.turn, AskAll) else [call.turn] if isinstance(call.turn, Ask) else ()


def _model_call(call: ModelCall) -> Facts:
    has_answer = not isinstance(call.turn, Refuse | Wait)
    return {
        "agent": call.agent,
        "model": call.model,
        "input_tokens": call.tokens.input if has_answer else None,
        "output_tokens": call.tokens.output if has_answer else None,
        "failed": isinstance(call.turn, Refuse),
    }


def _needles(facts: Facts) -> Iterator[tuple[str, str | int]]:
    """Yield the path of each fact, and a text or number that the telemetry contains if it carries the fact."""
    for name in ("question", "answer", "session_id", "user_id"):
        if facts[name] is not None:
            yield name, facts[name]
    if facts["raised"]:
        yield "raised", facts["raised"]["message"]
    if facts["provider_error"]:
        yield "provider_error.status_code", facts["provider_error"]["status_code"]
        yield "provider_error.retry_after_s", facts["provider_error"]["retry_after_s"]
    for index, agent in enumerate(facts["agents"]):
        yield from ((f"agents.{index}.{name}", agent[name]) for name in ("name", "question", "answer") if agent[name])
    for index, call in enumerate(facts["tool_calls"]):
        yield f"tool_calls.{index}.name", call["name"]
        yield f"tool_calls.{index}.arguments", json.dumps(call["arguments"])
        if call["result"] is not None:
            yield f"tool_calls.{index}.result", call["result"]
        if call["error"] is not None:
            yield f"tool_calls.{index}.error", call["error"]["message"]
    for index, call in enumerate(facts["model_calls"]):
        yield f"model_calls.{index}.model", call["model"]
        if call["input_tokens"] is not None:
            yield f"model_calls.{index}.input_tokens", call["input_tokens"]
            yield f"model_calls.{index}.output_tokens", call["output_tokens"]


def squeezed(text: str) -> str:
    """Return a text without white space, quotes and backslashes, so that quoted and plain values can be compared."""
    return _MARKS.sub("", text)
