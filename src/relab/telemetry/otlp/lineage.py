"""Find the nearest step, tool call and agent that enclose each span of a trace.

The parent of a span may be missing, because it is late or in another system. Parents may even form a cycle. All spans
of a cycle count as spans without a parent, so that the result does not depend on the span at which the search starts.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from relab.telemetry.models import CALL, STEP, StepStatus
from relab.telemetry.otlp import vocabulary as v
from relab.telemetry.otlp.facts import SpanFacts
from relab.telemetry.otlp.roles import MODEL_ROLES, Role
from relab.telemetry.otlp.spans import Attributes
from relab.telemetry.outcome import is_tool_request


class Ancestors(NamedTuple):
    """The nearest step, tool call and agent that enclose a span, and four properties of its ancestors.

    An ancestor is a span that encloses the span directly or indirectly.

    Attributes:
        step: the span id of the nearest ancestor that is a step; None if there is no such ancestor.
        call: the span id of the nearest ancestor that is a tool call; None if there is no such ancestor.
        agent: the span id of the nearest ancestor that is an agent; None if there is no such ancestor.
        is_known: whether any ancestor has a role in an agent's run (a `Role` other than `OTHER`).
        is_billed: whether the token counts of an enclosing model's span include the tokens of this span. It is true if
            such a model's span reports tokens. Exception: it is false if an agent of the same process lies between the
            two spans, because the tokens of this agent's model calls are not part of the outer call. (In Google ADK for
            TypeScript, a model call that hands over to an agent encloses this agent.)
        biller: the resource (process) of that model's span; None if there is no such span, or if a span between the
            two belongs to another process.
        is_in_model: whether any ancestor is a call of a language model.
    """

    step: str | None = None
    call: str | None = None
    agent: str | None = None
    is_known: bool = False
    is_billed: bool = False
    biller: Attributes | None = None
    is_in_model: bool = False


NOTHING = Ancestors()


def enclosing(spans: Iterable[SpanFacts], by_id: Mapping[str, SpanFacts]) -> set[str]:
    """Return the ids of all spans that enclose one of `spans`, directly or indirectly; `by_id` has all spans by id."""
    found: set[str] = set()
    for facts in spans:
        here = facts.span.parent_id
        # If a span is in the set, so are all spans above it. Stopping here keeps the time linear in deep traces.
        while here in by_id and here not in found:
            found.add(here)
            here = by_id[here].span.parent_id
    return found


def ancestors_of(facts: Mapping[str, SpanFacts]) -> dict[str, Ancestors]:
    """Return `{span id: nearest ancestors}` of all spans of a trace, given as `{span id: facts}`.

    The nearest ancestors are the nearest step, tool call and agent that enclose a span. A span is not its own ancestor.
    """
    outside: dict[str, Ancestors] = {}
    inside: dict[str, Ancestors] = {}
    for span_id, span_facts in facts.items():
        if span_id in outside:
            continue
        parent = span_facts.span.parent_id
        within = inside.get(parent)
        if within is None and parent in facts:
            _climb(span_id, facts, outside, inside)
        else:
            outside[span_id] = within or NOTHING
    return outside


def is_any_complete(agents: Sequence[SpanFacts], spans: Sequence[SpanFacts]) -> bool:
    """Return whether at least one agent is complete: no span that encloses the agent's span is still to arrive.

    A span has a missing parent if its parent is in the same process and not in `spans`.

    - If a function of the program itself (`_is_own_function`) has a missing parent, missing parents are expected to
      arrive. An agent is then incomplete if its span, or the outermost known span around it, has a missing parent.
    - Otherwise all agents are complete. Many programs export only the spans of agents, so that the parents of these
      spans never arrive.

    Args:
        agents: the spans of agents to examine, in a trace without a root.
        spans: all spans of the trace.
    """
    by_id = {each.span.span_id: each.span for each in spans}
    lost = {each.span.span_id for each in spans if each.span.has_local_parent and each.span.parent_id not in by_id}
    if not any(each.span.span_id in lost and _is_own_function(each) for each in spans):
        return bool(agents)
    # Shared by all agents, so that a span around many of them is visited once.
    is_late: dict[str, bool] = {}
    for facts in agents:
        path: dict[str, None] = {}
        here = facts.span
        while here.span_id not in is_late and here.span_id not in path and here.parent_id in by_id:
            path[here.span_id] = None
            here = by_id[here.parent_id]
        found = is_late.setdefault(here.span_id, here.span_id in lost)
        if not found:
            return True
        is_late.update(dict.fromkeys(path, found))
    return False


def _is_own_function(facts: SpanFacts) -> bool:
    """Return whether a span reports a function of the program itself, not an activity of an agent.

    Activities of an agent are the spans with a known role, with an operation of OpenTelemetry's GenAI conventions, or
    with a method of MCP (Model Context Protocol).
    """
    attributes = facts.span.attributes
    return facts.role is Role.OTHER and v.OPERATION not in attributes and v.MCP_METHOD not in attributes


def _climb(
    span_id: str, facts: Mapping[str, SpanFacts], outside: dict[str, Ancestors], inside: dict[str, Ancestors]
) -> None:
    """Find the nearest step, tool call and agent around a span, and those around each of the span's ancestors.

    Args:
        span_id: the id of the span.
        facts: `{span id: facts}` of all spans.
        outside: `{span id: nearest ancestors of this span}`; the function adds its results to it.
        inside: `{span id: nearest ancestors of each child of this span}`; a cache that the function reads and fills.
    """
    path: dict[str, None] = {}
    here = span_id
    while here in facts and here not in outside and here not in path:
        path[here] = None
        here = facts[here].span.parent_id
    above = list(path)
    if here in path:
        start = above.index(here)
        for circular in above[start:]:
            outside[circular] = NOTHING
        del above[start:]
    for below in reversed(above):
        parent = facts[below].span.parent_id
        if parent not in facts:
            outside[below] = NOTHING
            continue
        within = inside.get(parent)
        if within is None:
            within = inside[parent] = _within(facts[parent], outside[parent])
        outside[below] = within


def _within(facts: SpanFacts, around: Ancestors) -> Ancestors:
    span_id = facts.span.span_id
    is_billed, biller = around.is_billed, around.biller
    if biller is not None and (facts.span.has_remote_parent or facts.resource != biller):
        biller = None
    if not is_billed and facts.usage is not None and facts.role in MODEL_ROLES:
        is_billed, biller = True, facts.resource
    elif facts.role is Role.AGENT and biller is not None:
        is_billed, biller = False, None
    return Ancestors(
        span_id if facts.kind == STEP else around.step,
        span_id if facts.kind == CALL else around.call,
        span_id if facts.role is Role.AGENT else around.agent,
        facts.role is not Role.OTHER or around.is_known,
        is_billed,
        biller,
        around.is_in_model or facts.role is Role.LLM,
    )


def delegating_models(spans: Sequence[SpanFacts]) -> set[str]:
    """Return the span ids of the model calls that requested tools and handed over to an agent inside their span.

    The span of such a model call ends after the agent's span, although the model answered before the agent began.

    An agent inside a tool call does not count: it did not take over, because it answers the agent that called the tool.
    """
    by_id = {facts.span.span_id: facts for facts in spans}
    seen: set[str] = set()
    found: set[str] = set()
    for facts in spans:
        here = facts.span.parent_id if facts.role is Role.AGENT else ""
        while here in by_id and here not in seen:
            seen.add(here)
            outer = by_id[here]
            if outer.kind == CALL:
                break
            if outer.role is Role.LLM and any(map(is_tool_request, outer.item.get("finish_reasons") or ())):
                found.add(here)
            here = outer.span.parent_id
    return found


def failed_around(spans: Sequence[SpanFacts], by_id: Mapping[str, SpanFacts]) -> dict[str, SpanFacts | None]:
    """Return `{span id: nearest failed span that encloses it}`; None for a span that no failed span encloses.

    `by_id` is `{span id: facts}` of the same spans.
    """
    found: dict[str, SpanFacts | None] = {}
    for facts in spans:
        path: list[str] = []
        here = facts.span.span_id
        while here not in found:
            found[here] = None
            path.append(here)
            parent = by_id.get(by_id[here].span.parent_id)
            if parent is None:
                break
            here = parent.span.span_id
        for inner in reversed(path):
            parent = by_id.get(by_id[inner].span.parent_id)
            if parent is not None:
                is_failed = parent.outcome.status is StepStatus.FAILURE
                found[inner] = parent if is_failed else found[parent.span.span_id]
    return found
