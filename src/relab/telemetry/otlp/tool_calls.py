"""Join the tool calls that models request in their messages with the spans of tools.

Some spans of tools lack arguments or results that the messages have; these are added to the tool call of the span. Some
frameworks report no spans of tools: a tool call is then built from the request and the result in the messages.
"""

from __future__ import annotations

from collections import Counter, defaultdict, deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, NamedTuple, TypeAlias

from relab.core.clock import format_time
from relab.core.json import JsonValue
from relab.telemetry.models import CALL, MAX_SHORT_TEXT_CHARS, StepStatus
from relab.telemetry.otlp.approvals import count_requests, is_rejection
from relab.telemetry.otlp.arguments import call_key, plain_name
from relab.telemetry.otlp.facts import SpanFacts
from relab.telemetry.otlp.history import past_ids, spoken_ids
from relab.telemetry.otlp.lineage import enclosing, failed_around
from relab.telemetry.otlp.messages import ToolRequest, ToolResult
from relab.telemetry.otlp.outcome import SpanOutcome
from relab.telemetry.otlp.provider_errors import is_provider_error
from relab.telemetry.otlp.roles import Role
from relab.telemetry.otlp.text import MAX_OUTPUT_CHARS
from relab.telemetry.outcome import is_error_in_result, is_step_limit

ResultKey: TypeAlias = tuple[str | None, str | None]
"""`(call id, None)`, or `(None, tool name)` if the messages have no ids."""
_Call: TypeAlias = tuple[str, str]
"""A tool with arguments (`call_key`)."""
_HANDOFF_TOOLS: Final = ("transfer_to_", "transfer_back_to_", "handoff")


@dataclass(slots=True)
class MessageCall:
    """A tool call that a message requests and no span reports.

    Attributes:
        model: the span of the model, or of the agent, whose message requests the call.
        item: the fields of the tool call, except the id of its step.
        at_us: the time of the request, in microseconds since 1970.
        status: the status of the call.
    """

    model: SpanFacts
    item: dict[str, Any]
    at_us: int
    status: StepStatus


class ToolCalls(NamedTuple):
    """The tool calls that the messages of a trace contain.

    Attributes:
        added: `{id of a tool's span: fields of the call}`, with only the fields that complete or correct those of the span.
        asked_by: `{id of a tool's span: id of the span whose messages contain the request}`.
        separate: the tool calls without a span of their own, in order of time.
    """

    added: Mapping[str, Mapping[str, Any]]
    asked_by: Mapping[str, str]
    separate: Sequence[MessageCall]


_NO_CALLS: Final = ToolCalls({}, {}, ())


def join_tool_calls(spans: Sequence[SpanFacts], *, has_ended: bool) -> ToolCalls:
    """Return the tool calls that models request in the messages of a trace.

    Each call is joined with the span of its tool, if there is one.

    Args:
        spans: all spans of the trace, sorted by start.
        has_ended: whether the run has ended. A request without a span and a result then has the status `skipped`,
            otherwise `running`.
    """
    if not any(facts.talk.requests or facts.talk.earlier for facts in spans):
        return _NO_CALLS
    calls = _Joining(spans, has_ended).joined()
    _add_errors(calls.separate, spans)
    return calls


def _add_errors(calls: Sequence[MessageCall], spans: Sequence[SpanFacts]) -> None:
    """Mark skipped tool calls without a result as failed, with the error of the nearest failed span around the request.

    A call is changed only if the error can be its own. So three cases are left out:

    - The same span requested several such calls.
    - A step of a model, tool or retrieval inside the failed span failed too, and explains the error.
    - The error is one of a model's provider, or reports a limit of steps.
    """
    calls = [call for call in calls if call.status is StepStatus.SKIPPED and "result_summary" not in call.item]
    unanswered = Counter(call.model.span.span_id for call in calls)
    if not unanswered:
        return
    by_id = {facts.span.span_id: facts for facts in spans}
    failed_workers = (facts for facts in spans if facts.outcome.status is StepStatus.FAILURE and facts.role in _WORKERS)
    explained = enclosing(failed_workers, by_id)
    failed = failed_around(spans, by_id)
    for call in calls:
        span_id = call.model.span.span_id
        # The error explains only a single unanswered call, and only if no model or tool inside the failed span failed.
        outer = failed.get(span_id) if unanswered[span_id] == 1 else None
        if outer is not None and outer.span.span_id not in explained:
            _fail(call, outer.outcome)


_WORKERS: Final = (Role.LLM, Role.TOOL, Role.RETRIEVER, Role.EMBEDDING, Role.RERANKER)


def _fail(call: MessageCall, error: SpanOutcome) -> None:
    if is_step_limit(error.error_class, error.error_message) or is_provider_error(error.error_class):
        # The agent was stopped, or the next model call failed, so the result of the tool is not known.
        return
    call.status = StepStatus.FAILURE
    call.item["status"] = str(StepStatus.FAILURE)
    if error.error_class is not None:
        call.item["error_class"] = error.error_class[:MAX_SHORT_TEXT_CHARS]
    if error.error_message is not None:
        call.item["error_message"] = error.error_message[:MAX_OUTPUT_CHARS]


class _Joining:
    def __init__(self, spans: Sequence[SpanFacts], has_ended: bool) -> None:
        self._spans = spans
        self._has_ended = has_ended
        self._tools = [facts for facts in spans if facts.kind == CALL and facts.role is Role.TOOL]
        self._handoffs = sum(facts.role is Role.HANDOFF for facts in spans)
        self._identified: dict[tuple[str, str | None], deque[SpanFacts]] = defaultdict(deque)
        """The spans with a call id, by `(call id, tool name)`, and also by `(call id, None)`."""
        self._named: dict[str, list[SpanFacts]] = defaultdict(list)
        """The spans without a call id, by the tool's plain name, sorted by start."""
        self._foreign: dict[_Call, deque[SpanFacts]] = defaultdict(deque)
        """The spans whose call id is in no message, by tool and arguments: their instrumentation has ids of its own."""
        self._unidentified: dict[_Call, deque[SpanFacts]] = defaultdict(deque)
        """The spans without a call id, by tool and arguments, for tools of another process than the model's."""
        self._printed: dict[_Call, deque[SpanFacts]] = defaultdict(deque)
        """The spans that report only the value of their only argument, by the tool's plain name and this value."""
        self._called: dict[_Call, deque[SpanFacts]] = defaultdict(deque)
        """The spans with a call id, by tool and arguments, for requests of instrumentations that leave the id out."""
        self._taken: set[str] = set()
        spoken = spoken_ids(spans)
        self._past = past_ids(spans)
        for facts in self._tools:
            call_id, name = facts.item.get("tool_call_id"), plain_name(facts.item["tool_name"])
            if isinstance(facts.item.get("args_json"), str):
                self._printed[name, facts.item["args_json"]].append(facts)
            if call_id is not None:
                call = call_key(name, facts.item.get("args_json"))
                self._called[call].append(facts)
                if call_id not in spoken:
                    self._foreign[call].append(facts)
                self._identified[call_id, name].append(facts)
                self._identified[call_id, None].append(facts)
            else:
                self._named[name].append(facts)
                self._unidentified[call_key(name, facts.item.get("args_json"))].append(facts)
        self._next_named: dict[str, int] = defaultdict(int)
        self._results = _results(spans)
        self._added: dict[str, dict[str, Any]] = {}
        self._asked_by: dict[str, str] = {}
        self._separate: list[MessageCall] = []
        self._count_by_key: dict[ResultKey, int] = defaultdict(int)
        self._requested = count_requests(spans)
        """By tool and arguments: the number of requests in outputs that no input has repeated under another id yet."""
        self._first_in: dict[str, str] = {}
        """`{call id: id of the span whose messages were the first to contain the request}`."""

    def joined(self) -> ToolCalls:
        models = [facts for facts in self._spans if facts.role is Role.LLM]
        for facts in models:
            for number, request in enumerate(facts.talk.requests):
                self._join(facts, request, number)
        reports = bool(self._first_in) or bool(self._separate) or bool(self._asked_by)
        # Later model calls repeat the messages of the input: a request in an input is new only if no output has it.
        others = [facts for facts in self._spans if facts.role is not Role.LLM]
        for facts in (*reversed(models), *others):
            requests = (*facts.talk.earlier, *(facts.talk.requests if facts.role is not Role.LLM else ()))
            for number, request in enumerate(requests):
                span_id = facts.span.span_id
                call_id = request.call_id
                if call_id is not None and call_id in self._past:
                    continue
                if self._first_in.get(call_id, span_id) == span_id if call_id is not None else not reports:
                    self._join(facts, request, number, is_earlier=True)
            reports = reports or bool(requests)
        self._separate.sort(key=lambda call: (call.at_us, call.item["call_id"]))
        return ToolCalls(self._added, self._asked_by, self._separate)

    def _join(self, model: SpanFacts, request: ToolRequest, number: int, *, is_earlier: bool = False) -> None:
        if is_earlier and self._take_repeated(model, request):
            return
        tool = self._tool_of(model, request, is_earlier=is_earlier)
        is_repeated = request.call_id in self._first_in
        if request.call_id is not None:
            self._first_in.setdefault(request.call_id, model.span.span_id)
        result = self._result_of(request)
        if tool is None and result is None and is_repeated:
            # This is a second report of the same request: a new request would have a tool's span or a result.
            return
        if tool is not None:
            self._asked_by[tool.span.span_id] = model.span.span_id
            self._added[tool.span.span_id] = _fields_to_add(tool.item, request, result)
        elif request.name.startswith(_HANDOFF_TOOLS) and self._handoffs > 0:
            self._handoffs -= 1
        else:
            self._separate.append(self._call(model, request, number, result, is_earlier=is_earlier))

    def _take_repeated(self, model: SpanFacts, request: ToolRequest) -> bool:
        """Return whether `request`, from a model's input, repeats a request from a model's output under another id.

        OpenAI's responses give a call two ids; some instrumentations report one id in the output, and the other id in
        later inputs. A request whose id has a result or a span is not a repetition. If the result is True, the request
        from the output is used up: no other request can repeat it.
        """
        call_id = request.call_id
        if call_id is None or call_id in self._first_in or (call_id, None) in self._results:
            return False
        call = call_key(request.name, request.arguments)
        if (call_id, None) in self._identified or self._requested[call] <= 0:
            return False
        self._requested[call] -= 1
        self._first_in[call_id] = model.span.span_id
        return True

    def _tool_of(self, model: SpanFacts, request: ToolRequest, *, is_earlier: bool) -> SpanFacts | None:
        """Return the span of the tool that `request` asks for; None if there is no such span.

        Each span is returned for one request only.

        Args:
            model: the span whose messages contain the request.
            request: the request.
            is_earlier: whether the request comes from an earlier turn; its tool may have begun before the span `model`.
        """
        # First by id and name, then without an id; by id alone comes last, because some programs reuse ids.
        found = None
        if request.call_id is not None:
            found = self._next_of(self._identified.get((request.call_id, plain_name(request.name))))
        else:
            found = self._next_of(self._printed.get((plain_name(request.name), _only_value(request.arguments))))
        if found is None:
            found = self._with_equal_arguments(model, request, is_earlier=is_earlier)
        if found is None:
            found = self._next_by_name(request.name, 0 if is_earlier else model.span.start_us)
        if found is None:
            spans = self._foreign if request.call_id is not None else self._called
            found = self._next_of(spans.get(call_key(request.name, request.arguments)))
        if found is None and request.call_id is not None:
            found = self._next_of(self._identified.get((request.call_id, None)))
        if found is not None:
            self._taken.add(found.span.span_id)
        return found

    def _next_of(self, spans: deque[SpanFacts] | None) -> SpanFacts | None:
        """Return the first span of a tool in `spans` that is not assigned to a model's request yet; None without one.

        The returned span and all spans before it are removed from `spans`.
        """
        while spans:
            facts = spans.popleft()
            if facts.span.span_id not in self._taken:
                return facts
        return None

    def _with_equal_arguments(self, model: SpanFacts, request: ToolRequest, *, is_earlier: bool) -> SpanFacts | None:
        """Return the first unassigned tool span without a call id that has the name and arguments of `request`.

        This is only for the two kinds of requests whose tool span cannot be found by its start time (`_next_by_name`):

        - The request is from an earlier turn (`is_earlier`). Its time is not known.
        - The tool ran in another process than the model. The clocks of the two may differ.

        Return None for all other requests, or if there is no such span.
        """
        spans = self._unidentified.get(call_key(request.name, request.arguments))
        while spans and spans[0].span.span_id in self._taken:
            spans.popleft()
        return spans.popleft() if spans and (is_earlier or spans[0].resource != model.resource) else None

    def _next_by_name(self, name: str, since_us: int) -> SpanFacts | None:
        """Return the first unassigned span of the tool `name`; None if there is no such span.

        Spans with a call id, and spans that began before `since_us` (microseconds since 1970) or were passed by an
        earlier call, are skipped.
        """
        name = plain_name(name)
        named = self._named.get(name, ())
        place = self._next_named[name]
        while place < len(named) and (
            named[place].span.start_us < since_us or named[place].span.span_id in self._taken
        ):
            place += 1
        # Requests are joined in order of time, so later requests do not need the skipped spans.
        self._next_named[name] = min(place + 1, len(named))
        return named[place] if place < len(named) else None

    def _result_of(self, request: ToolRequest) -> ToolResult | None:
        """Return the tool result that belongs to `request`; None if the messages contain none.

        Call this method once per request, in order of time. The nth request with a call id gets the nth result with
        this id. Requests without a call id get results by the tool's name in the same way.
        """
        key = (request.call_id, None if request.call_id is not None else request.name)
        # The first request with this key gets the first result, the second request the second result.
        number = self._count_by_key[key]
        self._count_by_key[key] += 1
        found = self._results.get(key, ())
        return found[number] if number < len(found) else None

    def _call(
        self, model: SpanFacts, request: ToolRequest, number: int, result: ToolResult | None, *, is_earlier: bool
    ) -> MessageCall:
        span = model.span
        at_us = span.start_us if is_earlier else max(span.end_us or 0, span.start_us)
        if result is not None:
            status = _status_of(result)
        else:
            status = StepStatus.SKIPPED if self._has_ended else StepStatus.RUNNING
        item: dict[str, Any] = {
            "call_id": f"{span.span_id}.{'e' if is_earlier else ''}{number}",
            "tool_name": request.name[:MAX_SHORT_TEXT_CHARS],
            "status": str(status),
            "span_kind": "tool",
            "is_from_messages": True,
            "started_at": format_time(at_us),
        }
        if request.arguments is not None:
            item["args_json"] = request.arguments
        if request.call_id is not None:
            item["tool_call_id"] = request.call_id
        if result is not None and result.text:
            item["result_summary"] = result.text[:MAX_OUTPUT_CHARS]
            if status is StepStatus.FAILURE:
                item["error_message"] = result.text[:MAX_OUTPUT_CHARS]
        return MessageCall(model, item, at_us, status)


def _only_value(arguments: JsonValue) -> str:
    """Return the only argument if it is a text, else an empty text. Spans of LangChain.js have only this text."""
    values = [*arguments.values()] if isinstance(arguments, dict) and len(arguments) == 1 else []
    return values[0] if values and isinstance(values[0], str) else ""


def _results(spans: Sequence[SpanFacts]) -> dict[ResultKey, list[ToolResult]]:
    """Return the tool results in the messages of the spans, as `{key of a call: its results in order of time}`.

    A result with a call id has the key `(call id, None)`, and a result with a name has the key `(None, tool name)`. A
    result with both has both keys; a result with neither has the key `(None, None)`.
    """
    longest: dict[ResultKey, list[ToolResult]] = {}
    for facts in spans:
        own: dict[ResultKey, list[ToolResult]] = {}
        for result in facts.talk.results:
            if result.call_id is not None:
                own.setdefault((result.call_id, None), []).append(result)
            if result.call_id is None or result.name is not None:
                # The requests of LangChain.js have no ids where the results in the state of its graph have.
                own.setdefault((None, result.name), []).append(result)
        # Each model call repeats all earlier results, so the longest list of one span is complete.
        for key, results in own.items():
            if len(results) > len(longest.get(key, ())):
                longest[key] = results
    return longest


def _status_of(result: ToolResult) -> StepStatus:
    if is_rejection(result.text):
        return StepStatus.SKIPPED
    return StepStatus.FAILURE if result.is_error or is_error_in_result(result.text or "") else StepStatus.SUCCESS


def _fields_to_add(item: Mapping[str, Any], request: ToolRequest, result: ToolResult | None) -> dict[str, Any]:
    """Return the fields from a model's messages that the tool's span lacks, and those that correct its fields.

    Args:
        item: the fields of the tool call that were read from its span.
        request: the model's request for the call.
        result: the result of the call in the messages; None if they contain no result.
    """
    added: dict[str, Any] = {}
    known = item.get("args_json")
    if request.arguments is not None and not isinstance(known, dict | list) and known != request.arguments:
        # Instrumentations print the arguments as Python does, or as one positional text.
        added["args_json"] = request.arguments
    if request.call_id is not None and "tool_call_id" not in item:
        added["tool_call_id"] = request.call_id
    if result is not None and result.text:
        if "result_summary" not in item:
            added["result_summary"] = result.text[:MAX_OUTPUT_CHARS]
        status = _status_of(result)
        if status is not StepStatus.SUCCESS and item["status"] == StepStatus.SUCCESS:
            added["status"] = str(status)
            if status is StepStatus.FAILURE:
                added["error_message"] = result.text[:MAX_OUTPUT_CHARS]
    return added
