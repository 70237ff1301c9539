"""Hide spans that repeat others: internal steps of frameworks, and reports of the same model call by several layers.

Frameworks report each layer that a call passes. A run shows one step per model call, and the steps that users know by
name. The stored spans are not changed.
"""

from __future__ import annotations

import math
import re
from collections.abc import Container, Mapping, Sequence
from typing import Final

from relab.telemetry.models import StepStatus
from relab.telemetry.otlp import vocabulary as v
from relab.telemetry.otlp.arguments import plain_name
from relab.telemetry.otlp.facts import NO_ITEM, SpanFacts, text_attribute, times_of
from relab.telemetry.otlp.lineage import Ancestors, enclosing
from relab.telemetry.otlp.roles import Role
from relab.telemetry.otlp.talk import Talk
from relab.telemetry.otlp.text import as_text
from relab.telemetry.otlp.usage import usage_of_both

_OWN_FIELDS: Final = frozenset(("step_id", "name", "status", "span_kind", "started_at", "ended_at", "latency_ms"))
"""The fields of a step that an outer report of a model call never takes from an inner one."""


_ERROR_FIELDS: Final = ("status", "error_class", "error_message", "status_code")
_MAX_LAYERS: Final = 8
"""The maximum number of nested reports that are joined to one tool call, such as those of a client and its server."""
_VALUES: Final = ("args_json", "result_summary")
_SILENT_ENDS: Final = (StepStatus.SUCCESS, StepStatus.RUNNING)


def collapse(spans: Sequence[SpanFacts], around: Mapping[str, Ancestors]) -> Sequence[SpanFacts]:
    """Mark redundant spans of a trace as `NO_ITEM` (not shown in the timeline); return all spans in the same order.

    These spans are redundant:

    - Internal steps of a framework, unless they explain an error.
    - Spans of the parts of a tool call. The span of the call gets what only they report.
    - The inner one of two nested spans that report the same model call. The outer span gets the fields of both.
    - The span that reports the end of a streamed answer. The span of the request gets the fields of both.

    If no span is redundant, the result is `spans` itself.

    Args:
        spans: all spans of a trace, sorted by start.
        around: `{span id: what encloses the span}` (its nearest enclosing step, tool call and agent).
    """
    has_plumbing, has_nested, has_stream = _signs(spans, around)
    if not has_plumbing and not has_nested and not has_stream:
        return spans
    by_id = {facts.span.span_id: facts for facts in spans}
    changed: dict[str, SpanFacts] = {}
    if has_plumbing:
        explained = _ancestors_of_errors(spans, by_id)
        parts: dict[str, list[SpanFacts]] = {}
        recursive = _recursive_calls(spans, around)
        for facts in spans:
            span_id = facts.span.span_id
            if facts.role is Role.TOOL:
                call_id = _call_of_part(facts, around, by_id, recursive)
                # A part without a span of its call is the only report of the call, so it stays.
                if call_id is not None:
                    parts.setdefault(call_id, []).append(facts)
                    changed[span_id] = facts._replace(kind=NO_ITEM, role=Role.OTHER)
                continue
            is_silent = facts.outcome.status in _SILENT_ENDS or span_id in explained
            if facts.is_plumbing and around[span_id].is_known and is_silent:
                changed[span_id] = facts._replace(kind=NO_ITEM)
        # A span more than `_MAX_LAYERS` deep can be joined to a call that is itself a part; that part stays hidden.
        changed |= {
            call_id: _with_parts(by_id[call_id], found) for call_id, found in parts.items() if call_id not in changed
        }
    if has_nested:
        _join_model_calls(spans, around, by_id, changed)
    if has_stream:
        _join_streams(spans, changed)
    if not changed:
        return spans
    # Marked spans stay in the list, so that parents and children remain connected.
    return [changed.get(facts.span.span_id, facts) for facts in spans]


def _recursive_calls(spans: Sequence[SpanFacts], around: Mapping[str, Ancestors]) -> set[str]:
    """Return the ids of tool spans that are calls of their own, although a tool call encloses them.

    Usually, a span without arguments inside a call of the same tool reports that outer call again. But if two or more
    such spans of one tool are directly inside a call, they cannot all report it, so each is a call of its own. Internal
    spans of frameworks (`is_plumbing`) do not count, because they may be repeated attempts of the outer call. `around`
    is `{span id: what encloses the span}`.
    """
    found: dict[tuple[str, str], list[str]] = {}
    for facts in spans:
        call_id = around[facts.span.span_id].call
        if facts.role is Role.TOOL and call_id is not None and not facts.is_plumbing and "args_json" not in facts.item:
            found.setdefault((call_id, plain_name(facts.item["tool_name"])), []).append(facts.span.span_id)
    return {span_id for together in found.values() if len(together) > 1 for span_id in together}


def _call_of_part(
    part: SpanFacts, around: Mapping[str, Ancestors], by_id: Mapping[str, SpanFacts], recursive: Container[str]
) -> str | None:
    """Return the id of the outermost tool call that `part` reports again or reports a part of.

    Return None if `part` is a tool call of its own.

    Args:
        part: the span of a tool. Frameworks may report one tool call by several nested spans.
        around: `{span id: what encloses the span}` (its nearest enclosing step, tool call and agent).
        by_id: `{span id: facts}` of all spans of the trace.
        recursive: the ids of spans that are calls of their own, although a call of the same tool encloses them
            (`_recursive_calls`).
    """
    found, inner = None, part
    for _ in range(_MAX_LAYERS):
        outer_id = around[inner.span.span_id].call
        if outer_id is None or inner.span.span_id in recursive or not _is_part(inner, by_id[outer_id], around):
            break
        found, inner = outer_id, by_id[outer_id]
    return found


def _is_part(inner: SpanFacts, outer: SpanFacts, around: Mapping[str, Ancestors]) -> bool:
    """Return whether `inner`, a span inside the tool call `outer`, reports the same call or a part of it.

    The first case that applies decides. "Internal" means an internal span of a framework (`is_plumbing`). Arguments
    differ only if both spans have arguments.

    - `inner` names no tool: it is a part if it is internal.
    - An agent is between the two spans: it is not a part.
    - Both name the same tool: it is a part if it is internal or if the arguments do not differ.
    - One tool name is the other one with a prefix: it is a part if it is internal and the arguments do not differ.
    - The tool names differ: it is not a part.
    """
    name = text_attribute(inner.span.attributes, v.TOOL_NAME)
    if name is None:
        return inner.is_plumbing
    if around[inner.span.span_id].agent != around[outer.span.span_id].agent:
        return False
    given, known = inner.item.get("args_json"), outer.item.get("args_json")
    is_other = isinstance(given, dict) and isinstance(known, dict) and given != known
    one, other = plain_name(name), plain_name(outer.item["tool_name"])
    if one == other:
        return inner.is_plumbing or not is_other
    return inner.is_plumbing and not is_other and _is_qualified(one, other)


def _is_qualified(one: str, other: str) -> bool:
    """Return whether one name is the other one with a prefix, such as the name of the tool's server."""
    shorter, longer = sorted((one, other), key=len)
    return longer.endswith(f"_{shorter}")


def _with_parts(call: SpanFacts, parts: Sequence[SpanFacts]) -> SpanFacts:
    """Return the tool call `call`, completed by the arguments, the result and the error of its parts.

    Arguments and a result that the call reports itself stay. So does its own error, unless it is redacted (the
    framework removed the details). Otherwise, the call gets the error of the last part that failed. A failed part is
    ignored if a later part for the same tool succeeded.

    Args:
        call: the tool call.
        parts: the spans of its parts, such as its execution, sorted by start.
    """
    lacking = {field: part.item[field] for part in parts for field in _VALUES if field in part.item}
    call = call._replace(item={**lacking, **call.item})
    if call.outcome.status not in _SILENT_ENDS and not _REDACTED.search(call.item.get("error_message", "")):
        return call
    last_good: dict[str, int] = {}
    for part in parts:
        if part.outcome.status in _SILENT_ENDS:
            last_good[part.item["tool_name"]] = part.span.start_us
    for part in parts:
        # A later attempt at the same work may have succeeded.
        was_repeated = last_good.get(part.item["tool_name"], -1) >= (part.span.end_us or math.inf)
        if part.outcome.status not in _SILENT_ENDS and not was_repeated:
            error = {field: part.item[field] for field in _ERROR_FIELDS if field in part.item}
            if "result_summary" in call.item:
                # A server of MCP often reports only that the call failed; the result says why.
                error.setdefault("error_message", call.item["result_summary"])
            call = call._replace(outcome=part.outcome, item={**call.item, **error})
    return call


_REDACTED: Final = re.compile(r"\bdetails are redacted\b")
"""What the OpenAI Agents SDK writes in place of an exception."""


def _signs(spans: Sequence[SpanFacts], around: Mapping[str, Ancestors]) -> tuple[bool, bool, bool]:
    """Return which kinds of redundant spans a trace may have, as `(internal steps, nested calls, ends of streams)`.

    - internal steps: an internal step of a framework, or a tool's span inside a tool call
    - nested calls: a model call inside another model call
    - ends of streams: a span that reports the end of a streamed answer

    `around` is `{span id: what encloses the span}`.
    """
    has_plumbing = has_nested = has_stream = False
    model = Role.LLM
    for facts in spans:
        if facts.is_plumbing or (facts.role is Role.TOOL and around[facts.span.span_id].call is not None):
            has_plumbing = True
        if facts.role is model:
            if around[facts.span.span_id].is_in_model:
                has_nested = True
            if v.ENDS_STREAM in facts.span.attributes:
                has_stream = True
    return has_plumbing, has_nested, has_stream


def _ancestors_of_errors(spans: Sequence[SpanFacts], by_id: Mapping[str, SpanFacts]) -> set[str]:
    """Return the ids of all spans that enclose a failed span, directly or indirectly.

    A failed span is ignored if it is itself an internal step of a framework (`is_plumbing`).
    """
    failed = (facts for facts in spans if facts.outcome.status is StepStatus.FAILURE and not facts.is_plumbing)
    return enclosing(failed, by_id)


def _join_model_calls(
    spans: Sequence[SpanFacts],
    around: Mapping[str, Ancestors],
    by_id: Mapping[str, SpanFacts],
    changed: dict[str, SpanFacts],
) -> None:
    """Join pairs of nested spans that report the same model call, and add the results to `changed`.

    The outer span gets the fields of both spans. The inner span gets `NO_ITEM`, so that the timeline does not show it.

    Args:
        spans: the spans of the trace, sorted by start.
        around: `{span id: what encloses the span}` (its nearest enclosing step, tool call and agent).
        by_id: `{span id: facts}` of the same spans.
        changed: `{span id: new facts}`; results are added here.
    """
    inside: dict[str, list[SpanFacts]] = {}
    for facts in spans:
        outer_id = around[facts.span.span_id].step if facts.role is Role.LLM else None
        while outer_id is not None and by_id[outer_id].is_plumbing:
            outer_id = around[outer_id].step
        if outer_id is None or by_id[outer_id].role is not Role.LLM:
            continue
        # A span that began before a model call is no part of this call, even if it names the call as its parent.
        if facts.span.start_us >= by_id[outer_id].span.start_us:
            inside.setdefault(outer_id, []).append(facts)
    inner_ids = {facts.span.span_id for reports in inside.values() for facts in reports}
    order = [outer_id for outer_id in inside if outer_id not in inner_ids]
    for outer_id in order:
        order.extend([facts.span.span_id for facts in inside[outer_id] if facts.span.span_id in inside])
    # From the innermost outwards, so that an outer report gets the fields of all reports inside it.
    for outer_id in reversed(order):
        outer, inner = by_id[outer_id], inside[outer_id]
        # If there are several inner spans, they are attempts, which the outer call has retried.
        if len(inner) == 1 and inner[0].outcome.status is outer.outcome.status:
            inner_id = inner[0].span.span_id
            changed[outer_id] = _joined(outer, changed.get(inner_id, inner[0]))
            changed[inner_id] = inner[0]._replace(kind=NO_ITEM, role=Role.OTHER, usage=None, talk=Talk())


def _join_streams(spans: Sequence[SpanFacts], changed: dict[str, SpanFacts]) -> None:
    """Join each span that reports the end of a streamed answer to the span of its request.

    The two spans have the same parent and the same input. The span of the request gets the fields and the end time of
    the other one. The other one gets `NO_ITEM`, so that the timeline does not show it.

    Args:
        spans: the spans of the trace, sorted by start.
        changed: `{span id: new facts}`; results are added here.
    """
    last: dict[tuple[str | None, str | None], SpanFacts] = {}
    for facts in spans:
        if facts.role is not Role.LLM or facts.span.span_id in changed:
            continue
        place = (facts.span.parent_id, as_text(facts.span.attributes.get(v.INPUT_MESSAGES)))
        if v.ENDS_STREAM not in facts.span.attributes:
            last[place] = facts
            continue
        request = last.pop(place, None)
        if request is None or request.usage is not None or request.outcome.status is not facts.outcome.status:
            continue
        joined = _joined(request, facts)
        span = joined.span._replace(end_us=facts.span.end_us)
        changed[request.span.span_id] = joined._replace(span=span, item={**joined.item, **times_of(span)})
        changed[facts.span.span_id] = facts._replace(kind=NO_ITEM, role=Role.OTHER, usage=None, talk=Talk())


def _joined(outer: SpanFacts, inner: SpanFacts) -> SpanFacts:
    given = {field: value for field, value in inner.item.items() if field not in _OWN_FIELDS}
    # An outer report that shows an empty text may only not read the requests of tools that the inner one has.
    own = {field: value for field, value in outer.item.items() if value != "" or not given.get(field)}
    for field, said in (("input_summary", _asked), ("output_summary", _answered)):
        if field in given and said(inner.talk) and not said(outer.talk):
            # The inner report has the messages; the outer one has what was passed to its function.
            own.pop(field, None)
    return outer._replace(
        span=outer.span._replace(attributes={**inner.span.attributes, **outer.span.attributes}),
        item={**given, **own},
        usage=usage_of_both(outer.usage, inner.usage),
        talk=outer.talk.completed(inner.talk),
    )


def _asked(talk: Talk) -> bool:
    return bool(talk.question or talk.earlier or talk.results)


def _answered(talk: Talk) -> bool:
    return bool(talk.answer or talk.requests)
