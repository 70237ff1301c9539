"""Find the nearest ancestors of each span in a trace: its step, tool call and agent.

Parents may be missing (late, or in another system) and may even form a cycle. All spans of a
cycle count as spans without a parent, so that the result does not depend on the span at which
the search starts.
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
            a model's span around this one reports tokens, unless an agent of the same process lies between the two: the
            model calls of such an agent are not part of the outer call. (Google ADK for TypeScript runs the agent that
            takes over inside the model call that handed over.)
        biller: the resource (process) of that model's span; None if there is no such span, or if a span between the
            two is of another process.
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

    A span has a missing parent if its parent is in the same process and not in `spans`. An agent is incomplete if its
    own span, or the outermost known span around it, has a missing parent. Exception: if only spans other than the
    program's own functions have missing parents, all agents are complete. Many programs export only the spans of
    agents, so that the parents of these spans never arrive.

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

    Operations of OpenTelemetry's GenAI conventions and requests to MCP servers are activities of agents here: programs
    that export only the spans of their agents export these spans too.
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
        outside: `{span id: what encloses this span}`; the results are added here.
        inside: `{span id: what encloses each child of this span}`: a cache that is read and filled here.
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
    """Return the span ids of the model calls that requested tools and enclose an agent that took over.

    Such a span ends after the agent inside it, although its model answered before the agent began. An agent inside a
    tool call did not take over: it answers the agent that called the tool.
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
