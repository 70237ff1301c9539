"""Measure how correctly relab shows runs of agents built with real frameworks, from recorded telemetry with known facts.

python -m evals.frameworks [--framework NAME ...] [--misses] [--json]
A fact that the telemetry does not contain is not counted (`not_in_trace` in the fixtures).
"""

from __future__ import annotations

import argparse
import json
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import httpx
from rich.console import Console
from rich.table import Table

from evals.framework_runs import ENDS_SOON, ShownCall, ShownRun, show
from evals.lab_server import running_server
from rig.frameworks.record import read_expected, recorded_frameworks
from rig.frameworks.recordings import read_recording, recording_path
from rig.frameworks.truth import squeezed

Facts = Mapping[str, Any]

MEASURES = {
    "outcome": "outcome of the run",
    "blamed": "failing call attributed",
    "no blame": "nothing blamed in runs that succeeded",
    "arguments": "arguments of each tool call",
    "result": "result or error of each tool call",
    "agent": "agent of each tool call",
    "agent outcome": "outcome of each agent, where there are several",
    "question": "question shown",
    "answer": "answer shown",
    "guardrail": "event of a guardrail that tripped",
    "accepted": "exports accepted",
}


class Mark(NamedTuple):
    """The comparison of one fact with the value that relab shows.

    Attributes:
        framework: the framework that the agent was built with.
        case: the name of the recorded program.
        measure: the kind of fact, a key of `MEASURES`.
        is_right: whether relab shows the fact correctly.
        shown: the value that relab shows instead.
    """

    framework: str
    case: str
    measure: str
    is_right: bool
    shown: str


def marks_of(framework: str, case: str, facts: Facts, shown: ShownRun, exports: int) -> Iterator[Mark]:
    """Compare what relab shows of a run with the facts that the telemetry contains; yield a mark for each fact.

    Args:
        framework: the framework that the agent was built with.
        case: the name of the recorded program.
        facts: the known facts of the run.
        shown: the run as relab shows it.
        exports: the number of exports that were sent.
    """

    def mark(measure: str, is_right: bool, seen: Any = "") -> Mark:
        return Mark(framework, case, measure, is_right, str(seen)[:200])

    lost = set(facts["not_in_trace"])
    if "outcome" not in lost:
        yield mark("outcome", shown.outcome == facts["outcome"], f"{shown.outcome}, not {facts['outcome']}")
    if facts["blamed"] is None:
        yield mark("no blame", shown.blamed is None, shown.blamed)
    elif "blamed" not in lost:
        yield mark("blamed", _is_blamed(shown.blamed, facts), shown.blamed)
    yield from _call_marks(facts, shown, lost, mark)
    if len(facts["agents"]) > 1 and "outcome" not in lost:
        for number, agent in enumerate(facts["agents"]):
            became = _shown_agent(number, facts, shown).get("outcome")
            yield mark("agent outcome", became == agent["outcome"], f"{agent['name']}: {became}")
    for measure in ("question", "answer"):
        for place, expected, seen in _texts(measure, facts, shown):
            if expected is not None and place not in lost:
                yield mark(measure, seen is not None and squeezed(seen) == squeezed(expected), seen)
    if "guardrail" in facts:
        yield mark("guardrail", any(facts["guardrail"] in event for event in shown.guardrails), shown.guardrails)
    yield mark("accepted", not shown.rejected, f"{shown.rejected} of {exports}")


def _call_marks(
    facts: Facts, shown: ShownRun, lost: set[str], mark: Callable[[str, bool, Any], Mark]
) -> Iterator[Mark]:
    """Yield the marks of the arguments, the result and the agent of each tool call."""
    for number, (call, seen) in enumerate(_pairs(facts["tool_calls"], shown.tool_calls)):
        if f"tool_calls.{number}.arguments" not in lost:
            yield mark("arguments", seen is not None and _is_same(seen.arguments, call["arguments"]), seen)
        if not {f"tool_calls.{number}.result", f"tool_calls.{number}.error"} & lost:
            is_right = seen is not None and (_ended_so(seen, call) or (seen.skipped and _was_stopped(number, facts)))
            yield mark("result", is_right, seen)
        if not {f"tool_calls.{number}.name", f"agents.{_agent_number(facts, call['agent'])}.name"} & lost:
            yield mark("agent", seen is not None and seen.agent == call["agent"], seen and seen.agent)


def _is_blamed(shown: ShownCall | str | None, facts: Facts) -> bool:
    blamed = facts["blamed"]
    if isinstance(shown, ShownCall):
        # Two agents call one tool with different arguments, which identify their calls.
        calls = [
            call for call in facts["tool_calls"] if (call["name"], call["agent"]) == (blamed["name"], blamed["agent"])
        ]
        others = [call for call in facts["tool_calls"] if call["agent"] != blamed["agent"]]
        is_other = any(_is_same(shown.arguments, call["arguments"]) for call in others)
        return bool(calls) and _names(shown.name, blamed["name"]) and not is_other
    return shown == "model" and blamed["kind"] == "model"


def _pairs(expected: Sequence[Facts], shown: Sequence[ShownCall]) -> Iterator[tuple[Facts, ShownCall | None]]:
    """Yield each expected call with the shown call of the same tool, or None.

    It is the one with the same arguments if there is one, otherwise the next one.
    """
    left = list(shown)
    for call in expected:
        named = [seen for seen in left if _names(seen.name, call["name"])]
        exact = [seen for seen in named if _is_same(seen.arguments, call["arguments"])]
        found = next(iter(exact or named), None)
        if found is not None:
            left.remove(found)
        yield call, found


def _names(shown: str, tool: str) -> bool:
    """Return whether a shown name is that of a tool; some frameworks add the name of a group before it."""
    return shown == tool or shown.endswith((f"-{tool}", f".{tool}"))


def _is_same(shown: Any, expected: Any) -> bool:
    return bool(_parsed(shown) == expected)


def _parsed(value: Any) -> Any:
    try:
        return json.loads(value) if isinstance(value, str) else value
    except ValueError:
        return value


def _ended_so(shown: ShownCall, call: Facts) -> bool:
    if call["failed"]:
        told = squeezed(f"{shown.error} {shown.result}")
        return shown.failed and (call["error"] is None or squeezed(call["error"]["message"]) in told)
    return not shown.failed and _parsed(shown.result) == _parsed(call["result"])


def _was_stopped(number: int, facts: Facts) -> bool:
    """Return whether a call never reached its tool because its agent was stopped: its model was not called again."""
    calls, call = facts["tool_calls"], facts["tool_calls"][number]
    later = [other for other in calls[number + 1 :] if other["agent"] == call["agent"]]
    answers = sum(model["agent"] == call["agent"] for model in facts["model_calls"])
    requests = sum(other["agent"] == call["agent"] for other in calls)
    return not call["reached_tool"] and not later and answers == requests


def _agent_number(facts: Facts, name: str) -> int:
    return [agent["name"] for agent in facts["agents"]].index(name)


def _texts(measure: str, facts: Facts, shown: ShownRun) -> Iterator[tuple[str, str | None, str | None]]:
    """Yield place, expected text and shown text: of the run, or of each agent if the program asks several agents."""
    if facts["question"] is not None:
        yield measure, facts[measure], getattr(shown, measure)
        return
    for number, agent in enumerate(facts["agents"]):
        yield f"agents.{number}.{measure}", agent[measure], _shown_agent(number, facts, shown).get(measure)


def _shown_agent(number: int, facts: Facts, shown: ShownRun) -> Facts:
    """Return the shown agent with this agent's name, or the one at its position if the telemetry lacks its name."""
    if f"agents.{number}.name" in facts["not_in_trace"]:
        return shown.agents[number] if number < len(shown.agents) else {}
    name = facts["agents"][number]["name"]
    return next((agent for agent in shown.agents if agent.get("name") == name), {})


def replay(url: str, names: Sequence[str]) -> Iterator[Mark]:
    """Send the recordings of frameworks to a server, compare every run with its known facts, and yield the marks."""
    with httpx.Client(base_url=url, timeout=60) as client:
        for framework in names:
            yield from replay_framework(client, framework)


def replay_framework(client: httpx.Client, framework: str) -> Iterator[Mark]:
    """Send the recordings of one framework to the server of a client, and yield the marks of its runs."""
    for case, facts in read_expected(framework).items():
        exports = read_recording(recording_path(framework, case))
        yield from marks_of(framework, case, facts, show(client, exports), len(exports))


def tally(marks: Sequence[Mark]) -> dict[str, dict[str, tuple[int, int]]]:
    """Return, by framework and for `all`, and then by measure, how many facts are right, and how many there are."""
    found: dict[str, dict[str, list[bool]]] = defaultdict(lambda: defaultdict(list))
    for mark in marks:
        for row in (mark.framework, "all"):
            found[row][mark.measure].append(mark.is_right)
    return {row: {name: (sum(values), len(values)) for name, values in cells.items()} for row, cells in found.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--framework", action="append", help="only this one; may be given several times")
    parser.add_argument("--misses", action="store_true", help="show what is wrong")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    with running_server(ENDS_SOON) as url:
        marks = list(replay(url, options.framework or recorded_frameworks()))
    rows = tally(marks)
    if options.json:
        misses = [mark._asdict() for mark in marks if not mark.is_right]
        print(json.dumps({"frameworks": rows, "misses": misses}, indent=1))
        return
    console = Console()
    console.print(_table(rows))
    for mark in marks:
        if options.misses and not mark.is_right:
            console.print(f"{mark.framework} {mark.case}: {mark.measure}: {mark.shown}", markup=False)


def _table(rows: Mapping[str, Mapping[str, tuple[int, int]]]) -> Table:
    table = Table("framework", *MEASURES, title="right, of facts that the telemetry carries")
    for row in sorted(rows, key=lambda name: (name == "all", name)):
        cells = [rows[row].get(measure) for measure in MEASURES]
        table.add_row(row, *("-" if cell is None else f"{cell[0]}/{cell[1]}" for cell in cells))
    total = rows.get("all", {})
    shares = [
        f"{right / of:.0%}"
        if (of := total.get(measure, (0, 0))[1]) and (right := total[measure][0]) is not None
        else "-"
        for measure in MEASURES
    ]
    table.add_row("share", *shares)
    return table


if __name__ == "__main__":
    main()
