"""Build the rows of the tables in which commands show an agent run and its timeline."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

from relab.cli.cost_text import cost_text, run_tokens, token_text

if TYPE_CHECKING:
    from relab.telemetry.agent_models import RunAgent
    from relab.telemetry.models import RunHeader, TimelineItem

MAX_DETAIL_CHARS: Final = 300
MAX_DEPTH: Final = 20
_SUMMARY: Final = (
    "question",
    "answer",
    "outcome",
    "outcome_rule",
    "outcome_evidence",
    "agents",
    "cost",
    "cost_estimate",
)
"""The fields of a run that `summary_rows` shows; `field_rows` leaves them out."""

_TOKEN_KINDS: Final = ("prompt", "cached", "cache_write", "completion", "reasoning")
TIMELINE_COLUMNS: Final = (
    "time",
    "item",
    "agent",
    "status",
    "duration",
    "prompt + completion tokens",
    "model",
    "detail",
)


def summary_rows(run: RunHeader, items: Sequence[TimelineItem] = ()) -> Iterator[tuple[str, object]]:
    """Yield the rows of an agent run's summary, as `(name, value)`.

    The rows are question, answer, outcome, evidence of the outcome, cost, tokens, and the agents if there are several.

    Args:
        run: the agent run.
        items: the run's timeline. Evidence is shown with the title of the timeline item that it quotes. If `items`
            does not contain this item, it is shown with the item's kind, such as `tool call`.
    """
    titles = {item.ref_id: item.title for item in items}
    yield "question", run.question
    yield "answer", run.answer
    reason = f": {run.outcome_rule.reason}" if run.outcome_rule is not None else ""
    yield "outcome", f"{run.outcome.label}{reason}"
    for evidence in run.outcome_evidence:
        title = titles.get(evidence.ref_id, evidence.kind.replace("_", " "))
        source = "run" if evidence.kind == "run" else f"{title} [{evidence.ref_id}]"
        yield "evidence", f"{evidence.text} ({source}, {evidence.field})"
    yield "cost", cost_text(run)
    yield "tokens, prompt + completion", run_tokens(run)
    if len(run.agents) > 1:
        for agent in run.agents:
            yield f"agent {agent.name}", _agent_text(agent)


def _agent_text(agent: RunAgent) -> str:
    """Return a text about one agent of a run: its caller, numbers of steps and calls, outcome, question and answer."""
    arrival = ""
    if agent.parent is not None:
        arrival = f"{_ARRIVALS.get(agent.relation or '', 'from')} {agent.parent}; "
    outcome = agent.outcome.label if agent.outcome is not None else "-"
    reason = f": {agent.outcome_rule.reason}" if agent.outcome_rule is not None else ""
    because = "".join(f" ({evidence.text})" for evidence in agent.outcome_evidence[:1])
    work = f"{agent.steps or 0} steps, {agent.tool_calls or 0} calls"
    talk = f"{agent.question or '-'} → {agent.answer or '-'}"
    return f"{arrival}{work}; {outcome}{reason}{because}\n{talk}"


_ARRIVALS: Final[dict[str, str]] = {"called": "called by", "handed_over": "took over from"}


def cause_cell(run: RunHeader) -> str | None:
    """Return the category of a run's cause with the confidence, such as `timeout (high)`; None without an analysis."""
    return f"{run.category} ({run.category_confidence})" if run.category_confidence else run.category


def field_rows(run: RunHeader) -> Iterator[tuple[str, object]]:
    """Yield `(name, value)` for each field of a run with a value, except those in `summary_rows`.

    Lists and objects are yielded as JSON text.
    """
    from relab.core.json import canonical_json

    for name, value in run.model_dump(mode="json").items():
        if name not in _SUMMARY and value is not None and value != []:
            yield name, canonical_json(value) if isinstance(value, dict | list) else value


def timeline_rows(items: Sequence[TimelineItem], started_at: int) -> Iterator[tuple[object, ...]]:
    """Yield a row of table cells (see `TIMELINE_COLUMNS`) for each item of a timeline.

    The calls and events of a step follow it, indented. An item without an agent shows the agent of its step.

    Args:
        items: the items, oldest first.
        started_at: the start of the run in microseconds since 1970; the column `time` counts from it.
    """
    agents = {item.ref_id: item.data.get("agent_name") for item in items if item.kind == "step"}
    for depth, item in _tree(items):
        data = item.data
        took = _took_ms(data)
        yield (
            f"{(item.at - started_at) / 1e6:+.3f} s",
            f"{'  ' * min(depth, MAX_DEPTH)}{_title(item)} [{item.ref_id}]",
            data.get("agent_name") or agents.get(item.step_id or ""),
            item.status,
            f"{took:,.0f} ms" if took is not None else None,
            token_text({kind: _number(data.get(f"tokens_{kind}")) for kind in _TOKEN_KINDS}),
            data.get("model"),
            _detail(data),
        )


def _took_ms(data: Mapping[str, Any]) -> float | None:
    """Return the reported latency of an item in ms, else the time from its start to its end; None if unknown."""
    from relab.core.clock import parse_time

    sent, start, end = data.get("latency_ms"), data.get("started_at"), data.get("ended_at")
    if isinstance(sent, int | float):
        return sent
    if not isinstance(start, str) or not isinstance(end, str):
        return None
    try:
        return (parse_time(end) - parse_time(start)) / 1_000
    except ValueError:
        # An additional field of a guardrail event need not be a time.
        return None


def _number(value: Any) -> int | float | None:
    """Return `value` if it is a number, else None: additional fields of items have any type."""
    from relab.core.json import is_number

    return value if is_number(value) else None


def _title(item: TimelineItem) -> str:
    """Return the title of a timeline item. If another agent is called or takes over, its name is added."""
    target = item.data.get("to_agent")
    if target is None or item.title == f"handoff to {target}":
        return item.title
    is_handover = item.data.get("relation") == "handed_over"
    return f"{item.title} → {'hand-over to' if is_handover else 'agent'} {target}"


def _tree(items: Sequence[TimelineItem]) -> Iterator[tuple[int, TimelineItem]]:
    """Yield `(depth, item)` for each item of a timeline, parents before their children, siblings in their order."""
    known = {item.ref_id for item in items}
    below: dict[str | None, list[TimelineItem]] = defaultdict(list)
    for item in items:
        parents = (item.data.get("parent_step_id"),) if item.kind == "step" else (item.call_id, item.step_id)
        parent = next((name for name in parents if name in known and name != item.ref_id), None)
        below[parent].append(item)
    shown: set[int] = set()
    # Steps that are parents of each other have no way from the top, so they begin at the first of them.
    for first in (*below[None], *items):
        waiting = [(0, first)]
        while waiting:
            depth, item = waiting.pop()
            if id(item) in shown:
                continue
            shown.add(id(item))
            yield depth, item
            waiting.extend((depth + 1, child) for child in reversed(below.get(item.ref_id, [])))


def _detail(data: dict[str, Any]) -> str | None:
    """Return the arguments of a timeline item and its error or result, as one text; None without any.

    Arguments and result are each cut after `MAX_DETAIL_CHARS` characters.
    """
    from relab.core.json import canonical_json

    arguments = data.get("args_json")
    if arguments is not None and not isinstance(arguments, str):
        arguments = canonical_json(arguments)
    names = ("error_message", "error_class", "message", "result_summary", "output_summary")
    result = next((data[name] for name in names if data.get(name)), None)
    parts = [str(part)[:MAX_DETAIL_CHARS] for part in (arguments, result) if part]
    return " → ".join(parts) or None
