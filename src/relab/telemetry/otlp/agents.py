"""Find the agents of a trace, the spans of each agent, and which agent called or handed over to which other."""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple

from relab.telemetry.models import CALL, MAX_SHORT_TEXT_CHARS, StepStatus
from relab.telemetry.otlp import vocabulary as v
from relab.telemetry.otlp.facts import SpanFacts, text_attribute
from relab.telemetry.otlp.lineage import Ancestors
from relab.telemetry.otlp.roles import Role
from relab.telemetry.otlp.text import MAX_OUTPUT_CHARS
from relab.telemetry.otlp.tool_calls import MessageCall, ToolCalls
from relab.telemetry.outcome_models import AgentRelation

MAX_AGENTS: Final = 50
MAX_AGENT_TEXT_CHARS: Final = 1_000
"""The maximum number of agents that a run lists, and of characters of each text of an agent; steps have the complete texts."""

_DELEGATES: Final = ("coworker", "agent_name", "to_agent", "agent", "member_id", "recipient", "subagent_type")
"""Arguments in which tools of frameworks name the agent that gets a task."""
_NOT_WORD: Final = re.compile(r"[\W_]+")
_HANDOVER: Final = re.compile(r"(?:transfer|hand ?off|hand ?over)\b")
_DELEGATION: Final = re.compile(r"\b(?:ask|call|delegate|assign|run|invoke|agent|coworker|member|team)\b")
_MIN_NAME_CHARS: Final = 3
_MAX_TOOL_WORDS: Final = 12
_MIN_QUESTION_CHARS: Final = 10


class Transfer(NamedTuple):
    """A call or a hand-over from one agent to another.

    Attributes:
        at_us: when it happened, in microseconds since 1970.
        origin: the agent that called or handed over.
        target: the agent that was called or took over.
        relation: whether it was a call or a hand-over.
    """

    at_us: int
    origin: str
    target: str
    relation: AgentRelation


class TraceAgents:
    """The agents of one trace, the spans that belong to each agent, and the calls and hand-overs between agents.

    The constructor changes `calls`: a tool call that ran another agent, and has no result, gets the status and the
    answer of that agent.

    Args:
        spans: the spans of the trace, sorted by start.
        around: `{span id: what encloses the span}` (its nearest enclosing step, tool call and agent).
        calls: the tool calls in the messages of the trace.
    """

    def __init__(self, spans: Sequence[SpanFacts], around: Mapping[str, Ancestors], calls: ToolCalls) -> None:
        self._spans = spans
        self._around = around
        self.names = _names_of(spans, around)
        """`{span id: name of the agent that the span belongs to}`; empty if there are not several agents.

        A span belongs to the agent whose span encloses it most closely. If no span reports an agent, a model's span
        belongs to the agent that it names, or else to the conversation that it continues. Other spans are left out.
        """
        # The plain form of a name that consists only of symbols is empty. It is left out, because it would equal that
        # of missing names.
        self._plain = {plain: name for name in self.names.values() if (plain := _plain(name))}
        self._members = self._acting_spans()
        questions = ((_first_question(acting), name) for name, acting in reversed(self._members.items()))
        self._asked = {question: name for question, name in questions if len(question or "") >= _MIN_QUESTION_CHARS}
        self.to_agent: dict[str, Transfer] = {}
        """The transfers between agents, as `{id of a tool call, or span id of a hand-over: transfer}`."""
        if self.names:
            self._find_transfers(calls)
            _answer_calls(calls.separate, self.to_agent, spans)

    def name_of(self, span_id: str, calls: ToolCalls) -> str | None:
        """Return the name of the agent that a span belongs to; None if no agent is known.

        If a tool's span is not inside an agent's span, it belongs to the agent whose model requested the tool call.

        Args:
            span_id: the id of the span.
            calls: the tool calls of the trace.
        """
        return self.names.get(span_id) or self.names.get(calls.asked_by.get(span_id, ""))

    def fields(self) -> list[dict[str, Any]] | None:
        """Return the fields of each agent (those of `ReportedAgent`), in the order in which the agents began.

        Agents that only enclose other agents, and agents after the first `MAX_AGENTS`, are left out. Return None if the
        trace has fewer than two agents.
        """
        if not self.names:
            return None
        outer = {name: self._agent_around(name) for name in self._members}
        containers = {
            name for name in outer.values() if name is not None and _is_container(self._members.get(name, ()))
        }
        shown = [name for name in self._members if name not in containers]
        parents = self._parents({name: outer[name] if outer[name] not in containers else None for name in shown})
        return [_fields_of(name, self._members[name], parents.get(name)) for name in shown[:MAX_AGENTS]]

    def _acting_spans(self) -> dict[str, list[SpanFacts]]:
        """Return `{agent: its spans}`, sorted by start; only spans of agents, models, tools and retrievers."""
        found: dict[str, list[SpanFacts]] = {}
        for facts in self._spans:
            name = self.names.get(facts.span.span_id)
            if name is not None and facts.role in _ACTING:
                found.setdefault(name, []).append(facts)
        return found

    def _agent_around(self, name: str) -> str | None:
        """Return the other agent whose span encloses the first span of the agent `name`; None without such an agent.

        The first span is the first one with the role of an agent, or else the first one of any role.
        """
        acting = self._members[name]
        # A span inside the agent's own span may have the same start.
        first = next((facts for facts in acting if facts.role is Role.AGENT), acting[0])
        outer = self.names.get(self._around[first.span.span_id].agent or "")
        return outer if outer != name else None

    def _find_transfers(self, calls: ToolCalls) -> None:
        last = None
        for facts in self._spans:
            span_id = facts.span.span_id
            name = self.name_of(span_id, calls)
            if name is None and facts.role is Role.HANDOFF and last is not None:
                # LlamaIndex reports a hand-over outside of the agent's span.
                name = self.names[span_id] = last
            if name is None:
                continue
            last = name
            if facts.role is Role.HANDOFF:
                target = self._plain.get(_plain(text_attribute(facts.span.attributes, v.HANDOVER_TO) or ""))
                if target is not None:
                    self.to_agent[span_id] = Transfer(facts.span.start_us, name, target, AgentRelation.HANDED_OVER)
            elif facts.kind == CALL and facts.role is Role.TOOL:
                item = {**facts.item, **calls.added.get(span_id, {})}
                self._add_call(span_id, facts.span.start_us, name, item)
        for call in calls.separate:
            name = self.names.get(call.model.span.span_id)
            if name is not None:
                self._add_call(call.item["call_id"], call.at_us, name, call.item)

    def _add_call(self, call_id: str, at_us: int, origin: str, item: Mapping[str, Any]) -> None:
        """Record a transfer from the agent `origin` if the tool call runs another agent or hands over to another agent.

        The first rule that finds an agent decides:

        1. The tool's name contains the name of the agent.
        2. The tool's name says that it delegates or hands over, and an argument is the name of the agent.
        3. An argument equals the first question that the agent got.

        Args:
            call_id: the id of the tool call.
            at_us: the start of the tool call, in microseconds since 1970.
            origin: the agent that made the tool call.
            item: the fields of the tool call.
        """
        tool = _plain(item["tool_name"])
        arguments = item.get("args_json")
        values = arguments.values() if isinstance(arguments, dict) else ()
        is_handover = _HANDOVER.match(tool) is not None
        named = self._agent_in(tool)
        if named is None and (is_handover or _DELEGATION.search(tool)):
            named = next((self._plain[text] for text in map(_plain, values) if text in self._plain), None)
        if named is None:
            named = next((self._asked[text] for text in values if isinstance(text, str) and text in self._asked), None)
        if named is not None and named != origin:
            relation = AgentRelation.HANDED_OVER if is_handover else AgentRelation.CALLED
            self.to_agent[call_id] = Transfer(at_us, origin, named, relation)

    def _agent_in(self, tool: str) -> str | None:
        """Return the agent whose name occurs as whole words in `tool`, the name of a tool.

        Return None if there is no such agent. Lower and upper case and punctuation make no difference.
        """
        words = tool.split()[:_MAX_TOOL_WORDS]
        for size in range(len(words), 0, -1):
            for first in range(len(words) - size + 1):
                part = " ".join(words[first : first + size])
                if len(part) >= _MIN_NAME_CHARS and part in self._plain:
                    return self._plain[part]
        return None

    def _parents(self, around: Mapping[str, str | None]) -> dict[str, tuple[str, AgentRelation]]:
        """Return `{agent: (parent, relation)}`; agents without a parent are left out.

        The parent is the agent that last handed over to the agent before its first span. Without a hand-over, it is the
        agent in `around`, or else the agent that last called the agent before its first span.

        `around` is `{agent: the agent whose span encloses the agent; None if there is none}`.
        """
        arrivals: dict[str, list[Transfer]] = {}
        # In order of time: `to_agent` has the calls that only messages report after all spans. Ties keep this order.
        for transfer in sorted(self.to_agent.values(), key=lambda transfer: transfer.at_us):
            arrivals.setdefault(transfer.target, []).append(transfer)
        found = {}
        for name, outer in around.items():
            first = self._members[name][0]
            earlier = [transfer for transfer in arrivals.get(name, ()) if transfer.at_us <= first.span.start_us]
            handed = [transfer for transfer in earlier if transfer.relation is AgentRelation.HANDED_OVER]
            if handed:
                found[name] = (handed[-1].origin, AgentRelation.HANDED_OVER)
            elif outer is not None:
                found[name] = (outer, AgentRelation.CALLED)
            elif earlier:
                found[name] = (earlier[-1].origin, AgentRelation.CALLED)
        return found


_ACTING: Final = (Role.AGENT, Role.LLM, Role.TOOL, Role.RETRIEVER)


def _names_of(spans: Sequence[SpanFacts], around: Mapping[str, Ancestors]) -> dict[str, str]:
    labels: dict[str, str] = {}
    own: dict[str, str] = {}
    for facts in spans:
        if facts.role is Role.AGENT:
            labels[facts.span.span_id] = _agent_label(facts)
        elif facts.role in (Role.LLM, Role.TOOL) and v.AGENT_NAME in facts.span.attributes:
            name = text_attribute(facts.span.attributes, v.AGENT_NAME)
            if name is not None:
                own[facts.span.span_id] = name
    delegates = _delegates(spans, around)
    if not labels and not own and not delegates:
        return _conversations(spans)
    if len({*labels.values(), *own.values(), *delegates.values()}) < 2:
        return {}
    found: dict[str, str] = {}
    for facts in spans:
        span_id = facts.span.span_id
        outer = around[span_id]
        is_delegated = outer.call in delegates and around[outer.call].agent == outer.agent
        # The agent that a span itself names has precedence over the enclosing agent: some agents have no span of their
        # own.
        name = labels.get(span_id) or own.get(span_id) or (delegates[outer.call or ""] if is_delegated else None)
        name = name or labels.get(outer.agent or "")
        if name is not None:
            found[span_id] = name
    return found


def _delegates(spans: Sequence[SpanFacts], around: Mapping[str, Ancestors]) -> dict[str, str]:
    """Find the tool calls that run an agent without a span of its own; return `{span id of the call: agent}`.

    The arguments of such a tool call name the agent, and its span encloses a model call without another agent between
    them. `around` is `{span id: what encloses the span}` (its nearest enclosing step, tool call and agent).
    """
    named: dict[str, str] = {}
    for facts in spans:
        if facts.kind == CALL and facts.role is Role.TOOL:
            arguments = facts.item.get("args_json")
            texts = [arguments.get(key) for key in _DELEGATES] if isinstance(arguments, dict) else ()
            name = next((text for text in texts if text and isinstance(text, str)), None)
            if name is not None:
                named[facts.span.span_id] = name[:MAX_SHORT_TEXT_CHARS]
    if not named:
        return {}
    found: dict[str, str] = {}
    for facts in spans:
        outer = around[facts.span.span_id]
        if facts.role is Role.LLM and outer.call in named and around[outer.call].agent == outer.agent:
            found[outer.call] = named[outer.call]
    return found


def _conversations(spans: Sequence[SpanFacts]) -> dict[str, str]:
    """Assign each model call of a trace to a conversation; return `{span id of the call: name of the conversation}`.

    Model calls whose first user message has the same text belong to the same conversation. A conversation is complete
    if its last model call has an answer, and has tool calls of earlier turns in its input.

    The result is empty if a model call has no user message, if a conversation is incomplete, or if there are fewer than
    two conversations.
    """
    found: dict[str, list[SpanFacts]] = {}
    for facts in spans:
        if facts.role is Role.LLM:
            if facts.talk.opening is None:
                # A program may have shortened the messages of this call.
                return {}
            found.setdefault(facts.talk.opening, []).append(facts)
    # A complete conversation has a final answer and earlier tool calls.
    are_whole = all(members[-1].talk.answer and members[-1].talk.earlier for members in found.values())
    if len(found) < 2 or not are_whole:
        return {}
    return {
        facts.span.span_id: f"conversation {number}"
        for number, members in enumerate(found.values(), start=1)
        for facts in members
    }


def _agent_label(facts: SpanFacts) -> str:
    name = text_attribute(facts.span.attributes, v.AGENT_NAME)
    return (name or without_operation(facts.span.name) or "unknown")[:MAX_SHORT_TEXT_CHARS]


def without_operation(name: str) -> str:
    """Return the name of a span without the operation `invoke_agent`, `create_agent` or `invoke_workflow` at its start.

    For example, `invoke_agent planner` becomes `planner`.
    """
    for operation in ("invoke_agent ", "create_agent ", "invoke_workflow "):
        name = name.removeprefix(operation)
    return name


def _is_container(acting: Sequence[SpanFacts]) -> bool:
    """Return whether an agent only encloses other agents: it has no model call, tool call, question or answer.

    `acting` are the spans that belong to the agent.
    """
    return all(
        facts.role is Role.AGENT and facts.talk.question is None and facts.talk.answer is None for facts in acting
    )


def _first_question(acting: Sequence[SpanFacts]) -> str | None:
    return next((facts.talk.question for facts in acting if facts.talk.question), None)


def _fields_of(name: str, acting: Sequence[SpanFacts], parent: tuple[str, AgentRelation] | None) -> dict[str, Any]:
    talking = [facts for facts in acting if facts.role in (Role.AGENT, Role.LLM)]
    question = _first_question(talking)
    answered = [facts for facts in talking if facts.role is Role.AGENT and facts.talk.answer]
    models = [facts for facts in talking if facts.role is Role.LLM]
    last = max(answered or models or talking or acting, key=lambda facts: (facts.span.end_us or 0, facts.span.span_id))
    fields = {
        "name": name,
        "parent": parent[0] if parent is not None else None,
        "relation": str(parent[1]) if parent is not None else None,
        "question": question and question[:MAX_AGENT_TEXT_CHARS],
        "answer": last.talk.answer and last.talk.answer[:MAX_AGENT_TEXT_CHARS],
    }
    return {key: value for key, value in fields.items() if value is not None}


def _answer_calls(calls: Sequence[MessageCall], to_agent: Mapping[str, Transfer], spans: Sequence[SpanFacts]) -> None:
    """Set the status and the result of tool calls that run another agent and have no result of their own.

    Such a call gets the status and the answer of a span of the called agent: the first one that started no earlier than
    the model call that requested the tool. Each span is used for one tool call only.

    Args:
        calls: the tool calls that have no span; changed in place.
        to_agent: `{id of a tool call: the transfer (call or hand-over) to another agent}`.
        spans: the spans of the trace, sorted by start.
    """
    runs: dict[str, deque[SpanFacts]] = {}
    for facts in spans if to_agent else ():
        if facts.role is Role.AGENT:
            runs.setdefault(_agent_label(facts), deque()).append(facts)
    for call in calls:
        transfer = to_agent.get(call.item["call_id"])
        if transfer is None or transfer.relation is not AgentRelation.CALLED or call.status is not StepStatus.SKIPPED:
            continue
        # Both are in order of time, so that each run answers one call, and the search stays linear.
        waiting = runs.get(transfer.target, deque())
        while waiting and waiting[0].span.start_us < call.model.span.start_us:
            waiting.popleft()
        if waiting:
            run = waiting.popleft()
            call.status = run.outcome.status
            call.item["status"] = str(run.outcome.status)
            if run.talk.answer:
                call.item["result_summary"] = run.talk.answer[:MAX_OUTPUT_CHARS]


def _plain(value: Any) -> str:
    return _NOT_WORD.sub(" ", value.casefold()).strip() if isinstance(value, str) else ""
