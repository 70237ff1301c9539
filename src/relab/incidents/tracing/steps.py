"""Convert the timeline of an incident to steps, tool calls and guardrail events of an agent run.

Pure. Events of unknown kinds are ignored.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

from relab.core.clock import format_time
from relab.core.json import canonical_json
from relab.incidents.actions.records import ActionRecord, ActionStatus
from relab.incidents.postmortem.models import IncidentRecord
from relab.incidents.storage.models import EventKind, Phase, TimelineEvent

PROBED: Final = "looked"
"""The kind of the timeline event that records probes that were run together."""
MAX_SUMMARY: Final = 2_000
_US: Final = 1_000_000
_MAX_US: Final = 3_600 * _US
_MAX_NAME: Final = 500

_NODES: Final = {
    EventKind.OPENED: Phase.DETECT,
    "gathered": Phase.GATHER,
    "thought": Phase.DIAGNOSE,
    "diagnosed": Phase.INVESTIGATE,
    "ended": Phase.INVESTIGATE,
    "planned": Phase.PLAN,
    "stood_down": Phase.PLAN,
    "refused": Phase.PLAN,
    "not_possible": Phase.PLAN,
    "suggested": Phase.PLAN,
    "question_over": Phase.APPROVE,
    "not_asked": Phase.EXECUTE,
    EventKind.APPROVAL_ASKED: Phase.APPROVE,
    EventKind.APPROVAL_DECIDED: Phase.APPROVE,
    EventKind.APPROVAL_WITHDRAWN: Phase.APPROVE,
    EventKind.ACT_ASKED: Phase.EXECUTE,
    EventKind.ACT_FINISHED: Phase.EXECUTE,
    EventKind.ACT_EFFECT: Phase.VERIFY,
    "recovering": Phase.VERIFY,
    "verified": Phase.VERIFY,
    "not_undone": Phase.VERIFY,
    "escalated": Phase.ESCALATE,
    "worsened": Phase.ESCALATE,
    "recurred": Phase.ESCALATE,
    "records_unknown": Phase.LEARN,
    "limit_stays": Phase.LEARN,
    "drafted": Phase.LEARN,
    "not_drafted": Phase.LEARN,
    EventKind.CLOSED: Phase.LEARN,
}
"""The node that appends each kind of event. Other kinds belong to no node, or to the node of the next event."""
_ONE_VISIT: Final = frozenset((Phase.APPROVE, Phase.EXECUTE, Phase.VERIFY, Phase.LEARN))
"""Nodes that append several events in one visit."""
_GUARDS: Final = {
    "stood_down": "stand-down",
    "refused": "policy",
    "not_possible": "dry run",
    "suggested": "policy",
    "not_asked": "policy",
    EventKind.APPROVAL_ASKED: "approval",
    EventKind.APPROVAL_DECIDED: "approval",
    EventKind.APPROVAL_WITHDRAWN: "approval",
    EventKind.PAUSED: "kill switch",
    EventKind.RESUMED: "kill switch",
}
_EFFECTS: Final = {"failed": "not_mended", "worse": "made_worse"}
_CAME: Final = {"failed": "has not helped", "worse": "has made it worse"}
_MODEL_ENDS: Final = frozenset(("model_answered", "model_failed"))

Item = dict[str, Any]


class Steps:
    """Converts the timeline of an incident to the parts of an agent run.

    Attributes:
        steps, calls, guards: the steps, tool calls and guardrail events, as JSON objects of telemetry's schema.
    """

    def __init__(self, case: IncidentRecord) -> None:
        self.steps: list[Item] = []
        self.calls: list[Item] = []
        self.guards: list[Item] = []
        self._acts = {act.key: act for act in case.actions}
        self._waiting: list[Item] = []
        """Tool calls whose step has no event yet."""
        self._node: str | None = None
        self._reached_us = case.incident.opened_at
        self._attempt = 0
        self._action = "What was done"
        self._rounds = 0
        for event in case.events:
            self._read(event)
        self.calls += self._waiting

    def _read(self, event: TimelineEvent) -> None:
        # A clock may be set back, so the order of events is the order in which they were written.
        at_us = max(event.at, self._reached_us)
        node = self._node_of(event)
        if event.kind == PROBED:
            self._waiting += self._probes(event)
        elif event.kind in _MODEL_ENDS:
            self._waiting.append(_model_call(event))
        elif event.kind == "failed":
            self._step("responder", at_us, event)
            self._fail("responder_failed", event.message)
        elif node is not None:
            self._visit(node, at_us, event)
        if event.kind in _GUARDS:
            self._guard(event, at_us)

    def _node_of(self, event: TimelineEvent) -> Phase | None:
        if event.kind == EventKind.ACT_FINISHED and event.content.get("status") == ActionStatus.UNDONE:
            # An action is undone because of its verification.
            return Phase.VERIFY
        return _NODES.get(event.kind)

    def _visit(self, node: Phase, at_us: int, event: TimelineEvent) -> None:
        if event.kind == "planned":
            self._attempt += 1
        continues = node == self._node and node in _ONE_VISIT and event.kind != EventKind.ACT_ASKED
        if continues:
            self._extend(at_us, event)
        else:
            self._step(node, at_us, event)
        if event.kind == EventKind.ACT_ASKED:
            self._act(event)
        elif event.kind == EventKind.ACT_FINISHED:
            self._finished(event)
        elif event.kind == "verified":
            effect = str(event.content.get("outcome"))
            if effect in _EFFECTS:
                self._fail(_EFFECTS[effect], f"{self._action} {_CAME[effect]}: {event.message}")
        elif event.kind == "not_undone":
            self._fail("not_undone", event.message)
        elif event.kind in {"stood_down", "refused", "not_possible", "suggested", "not_asked"}:
            self.steps[-1]["status"] = "skipped"
        elif event.kind == EventKind.APPROVAL_ASKED:
            self._set_running()
        elif (
            event.kind == EventKind.APPROVAL_DECIDED
            and _mapping(event.content.get("decision")).get("approved") is False
        ):
            self._fail("approval_rejected", event.message)
        elif event.kind == "escalated":
            self._fail("escalated", event.message)

    def _step(self, name: str, at_us: int, event: TimelineEvent) -> None:
        step = {
            "step_id": f"{len(self.steps) + 1}.{name}",
            "name": self._name(name),
            "status": "success",
            "started_at": format_time(self._reached_us),
            "ended_at": format_time(at_us),
            "output_summary": event.message[:MAX_SUMMARY],
        }
        self.steps.append(step)
        self._node, self._reached_us = name, at_us
        self._take_waiting()

    def _extend(self, at_us: int, event: TimelineEvent) -> None:
        step = self.steps[-1]
        # The last event of a visit has its result.
        step |= {"ended_at": format_time(at_us), "output_summary": event.message[:MAX_SUMMARY]}
        if step["status"] == "running":
            step["status"] = "success"
        self._reached_us = at_us
        self._take_waiting()

    def _name(self, node: str) -> str:
        is_of_attempt = node in {Phase.PLAN, Phase.APPROVE, Phase.EXECUTE, Phase.VERIFY} and self._attempt > 0
        return f"{node}, attempt {self._attempt}" if is_of_attempt else str(node)

    def _take_waiting(self) -> None:
        for call in self._waiting:
            call["step_id"] = self.steps[-1]["step_id"]
        self.calls += self._waiting
        self._waiting = []

    def _fail(self, error_class: str, message: str) -> None:
        step = self.steps[-1]
        step |= {"status": "failure", "error_class": error_class, "error_message": message[:MAX_SUMMARY]}
        # The error message replaces the output.
        step.pop("output_summary", None)

    def _set_running(self) -> None:
        self.steps[-1]["status"] = "running"
        self.steps[-1].pop("ended_at", None)

    def _act(self, event: TimelineEvent) -> None:
        act = self._acts.get(str(_mapping(event.content.get("act")).get("key")))
        if act is None:
            return
        self._action = act.action[:_MAX_NAME]
        self._set_running()
        self.calls.append(_act_call(act, f"act.{event.seq}", self.steps[-1]["step_id"]))

    def _finished(self, event: TimelineEvent) -> None:
        status = event.content.get("status")
        if status in {ActionStatus.FAILED, ActionStatus.REFUSED}:
            self._fail(f"action_{status}", str(event.content.get("error") or event.message))

    def _probes(self, event: TimelineEvent) -> Iterator[Item]:
        self._rounds += 1
        rows = event.content.get("looks")
        began_us = event.content.get("began_us")
        if not isinstance(began_us, int) or not 0 <= event.at - began_us <= _MAX_US:
            # The clock was set meanwhile, so the duration is not known.
            began_us = event.at
        for place, row in enumerate(rows if isinstance(rows, list) else ()):
            if isinstance(row, Mapping) and isinstance(row.get("look"), str):
                call = _probe_call(row, event, began_us, self._rounds)
                yield call | {"call_id": f"look.{event.seq}.{place}"}

    def _guard(self, event: TimelineEvent, at_us: int) -> None:
        guard: Item = {
            "event_id": f"guard.{event.seq}",
            "type": _GUARDS[event.kind],
            "message": event.message[:MAX_SUMMARY],
            "created_at": format_time(at_us),
        }
        if self.steps:
            guard["step_id"] = self.steps[-1]["step_id"]
        self.guards.append(guard)


def facts_of(count: int) -> str:
    """Return a number of facts in words, such as `2 facts`."""
    return f"{count} fact{'' if count == 1 else 's'}"


def _probe_call(row: Mapping[str, Any], event: TimelineEvent, began_us: int, number: int) -> Item:
    """Convert a probe to a tool call of the incident's agent run.

    The call's status is `failure` if the probe found no facts and at least one of its requests was not answered.

    Args:
        row: the probe's name, facts and unanswered requests, as the event stores them.
        event: the timeline event that records the probe; its time is the end of the call.
        began_us: when the probe began, in microseconds since 1970.
        number: the number of the round of probes. It is an argument of the call, so that calls of different rounds are
            not taken for repetitions.
    """
    name, facts, absent = str(row["look"]), _mapping(row.get("facts")), _mapping(row.get("absent"))
    seen = ", ".join(f"{fact} = {_plain(value)}" for fact, value in facts.items())
    silent = "; ".join(f"{request}: {reason}" for request, reason in absent.items())
    call: Item = {
        "tool_name": f"look:{name}"[:_MAX_NAME],
        "status": "success" if facts or not absent else "failure",
        # The round makes the arguments differ: taking a probe again is not a repeated call, it shows what has changed.
        "args_json": {"look": name, "requests": row.get("requests"), "round": number},
        "started_at": format_time(began_us),
        "ended_at": format_time(event.at),
    }
    if call["status"] == "failure":
        return call | {"error_class": "no_answer", "error_message": silent[:MAX_SUMMARY]}
    summary = f"{facts_of(len(facts))} seen{': ' if facts else '.'}{seen}"
    return call | {"result_summary": (f"{summary} (no answer: {silent})" if silent else summary)[:MAX_SUMMARY]}


def _act_call(act: ActionRecord, call_id: str, step_id: str) -> Item:
    """Convert an action to a tool call of the step `step_id`."""
    ended_us = act.finished_at
    call: Item = {
        "call_id": call_id,
        "step_id": step_id,
        "tool_name": act.action[:_MAX_NAME],
        "args_json": {"target": act.target, "parameters": act.parameters, "idempotency_key": act.key},
        "started_at": format_time(act.asked_at),
    }
    if act.status is ActionStatus.ASKED:
        return call | {"status": "running"}
    if ended_us is not None and ended_us >= act.asked_at:
        call["ended_at"] = format_time(ended_us)
    if act.status in {ActionStatus.FAILED, ActionStatus.REFUSED}:
        error = (act.error or f"The action server says that it is {act.status}.")[:MAX_SUMMARY]
        return call | {"status": "failure", "error_class": f"action_{act.status}", "error_message": error}
    outcome = "done, and taken back later" if act.status is ActionStatus.UNDONE else "done"
    effect = "its result was not recorded" if act.effect is None else f"effect on users: {act.effect}"
    return call | {"status": "success", "result_summary": f"{outcome}; {effect}"}


def _model_call(event: TimelineEvent) -> Item:
    """Convert a call of a language model to a tool call; `event` records the answer or the failure of the call."""
    took_s = event.content.get("took_s")
    took_us = int(took_s * _US) if isinstance(took_s, int | float) and 0 <= took_s * _US <= _MAX_US else 0
    call: Item = {
        "call_id": f"model.{event.seq}",
        "tool_name": "language model",
        "args_json": {"call": event.content.get("call_id")},
        "started_at": format_time(max(event.at - took_us, 0)),
        "ended_at": format_time(event.at),
    }
    if event.kind == "model_answered":
        return call | {"status": "success", "result_summary": event.message[:MAX_SUMMARY]}
    error_class = str(event.content.get("outcome") or "model_failed")[:_MAX_NAME]
    return call | {"status": "failure", "error_class": error_class, "error_message": event.message[:MAX_SUMMARY]}


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _plain(value: Any) -> str:
    return value if isinstance(value, str) else canonical_json(value)
