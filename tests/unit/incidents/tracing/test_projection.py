"""An incident as an agent run: any timeline gives a valid and reproducible run, which run analysis can explain."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relab.incidents.actions.approvals import Decision
from relab.incidents.actions.records import ActionRecord, ActionStatus, RepairResult
from relab.incidents.postmortem.models import IncidentRecord
from relab.incidents.storage.models import EventKind, IncidentOutcome, IncidentStatus, TimelineEvent
from relab.incidents.tracing.projection import agent_run_id, agent_run_of
from relab.rca.analyzer import analyze
from relab.telemetry.models import AgentRun, Step
from support.incidents.acts import SECOND_US, act
from support.incidents.logs import question
from support.incidents.postmortems import CLOSED_US, OPENED_US, case, event, incident
from support.telemetry.runs import content_digest

LOOKS = {
    "began_us": OPENED_US + SECOND_US // 2,
    "looks": [
        {"look": "service", "requests": ["target GET /api/v1/health"], "facts": {"health": "degraded"}, "absent": {}},
        {
            "look": "cache",
            "requests": ["target GET /c"],
            "facts": {},
            "absent": {"target GET /c": "no answer within 2 s"},
        },
    ],
}


def tried(number: int, record: ActionRecord, *ends: TimelineEvent) -> list[TimelineEvent]:
    """Return the events of one attempt: its plan, the request, the result, and the given further events."""
    asked = record.model_dump(mode="json")
    came_to = {name: asked[name] for name in ("key", "action", "status", "record_id", "error", "effect")}
    return [
        event(number, "planned", f"{record.action}: because."),
        event(number + 1, EventKind.ACT_ASKED, f"{record.action} is asked for.", content={"act": asked}),
        event(number + 2, EventKind.ACT_FINISHED, f"{record.action}: {record.status}.", content=came_to),
        *ends,
    ]


def verified(number: int, outcome: str) -> TimelineEvent:
    return event(number, "verified", f"Errors are at 30 %, so it is {outcome}.", content={"outcome": outcome})


def told(*events: TimelineEvent, **more: Any) -> AgentRun:
    return agent_run_of(case(**{"events": list(events), "actions": [], **more}))


def named(steps: list[Step]) -> list[tuple[str, str, str | None]]:
    return [(step.name, step.status.value, step.error_class) for step in steps]


def two_attempts() -> IncidentRecord:
    first = act(key="k1", action="use-path", effect=RepairResult.FAILED, asked_at=OPENED_US + 4 * SECOND_US)
    second = act(key="k2", action="restart-cache", effect=RepairResult.VERIFIED, asked_at=OPENED_US + 8 * SECOND_US)
    events = [
        event(1, EventKind.OPENED, "errors.pct is 38"),
        event(2, "looked", "Looked.", content=LOOKS),
        event(3, "gathered", "1 fact is known."),
        *tried(4, first, verified(7, "failed")),
        *tried(8, second, verified(11, "verified")),
        event(12, EventKind.CLOSED, "It is mended.", at=CLOSED_US),
    ]
    return case(events=events, actions=[first, second])


def test_nodes_are_steps_and_probes_and_actions_are_calls() -> None:
    run = agent_run_of(two_attempts())

    assert run.run_id == agent_run_id("i1")
    assert run.agent_name == "relab-responder"
    assert run.status == "success"
    assert run.environment == "shop"
    assert named(run.steps) == [
        ("detect", "success", None),
        ("gather", "success", None),
        ("plan, attempt 1", "success", None),
        ("execute, attempt 1", "success", None),
        ("verify, attempt 1", "failure", "not_mended"),
        ("plan, attempt 2", "success", None),
        ("execute, attempt 2", "success", None),
        ("verify, attempt 2", "success", None),
        ("learn", "success", None),
    ]
    assert [(call.tool_name, call.status.value, call.step_id) for call in run.tool_calls] == [
        ("look:service", "success", "2.gather"),
        ("look:cache", "failure", "2.gather"),
        ("use-path", "success", "4.execute"),
        ("restart-cache", "success", "7.execute"),
    ]
    assert run.tool_calls[1].error_message == "target GET /c: no answer within 2 s"
    assert run.tool_calls[2].args_json["idempotency_key"] == "k1"
    assert (run.model_extra or {})["incident"]["incident_id"] == "i1"
    assert run.started_at == OPENED_US
    assert run.ended_at == CLOSED_US


def test_steps_follow_each_other_without_a_gap() -> None:
    steps = agent_run_of(two_attempts()).steps

    assert [step.started_at for step in steps[1:]] == [step.ended_at for step in steps[:-1]]


def test_same_timeline_gives_the_same_run() -> None:
    assert content_digest(agent_run_of(two_attempts())) == content_digest(agent_run_of(two_attempts()))


@pytest.mark.parametrize(
    ("more", "status", "error"),
    [
        ({"outcome": IncidentOutcome.RESOLVED}, "success", None),
        ({"outcome": IncidentOutcome.PASSED}, "cancelled", None),
        ({"outcome": IncidentOutcome.DISMISSED}, "cancelled", None),
        ({"outcome": IncidentOutcome.CLOSED_BY_PERSON}, "cancelled", None),
        ({"outcome": IncidentOutcome.ESCALATED}, "failure", "nothing_to_be_done"),
        ({"outcome": None, "closed_at": None, "status": IncidentStatus.OPEN}, "running", None),
        ({"outcome": None, "closed_at": None, "status": IncidentStatus.ESCALATED}, "failure", "nothing_to_be_done"),
        ({"outcome": IncidentOutcome.ESCALATED, "diagnosis": "unknown"}, "failure", "cause_unknown"),
    ],
)
def test_outcome_of_the_incident_is_the_status_of_the_run(more: dict[str, Any], status: str, error: str | None) -> None:
    run = told(incident=incident(**more))

    assert run.status == status
    assert run.error_type == error


@pytest.mark.parametrize(
    ("more", "error"),
    [
        ({"actions": [act(effect=RepairResult.FAILED)]}, "actions_failed"),
        ({"actions": [act(status=ActionStatus.REFUSED)]}, "actions_refused"),
        ({"events": [event(1, "refused", "restart-cache: no."), event(2, "escalated")]}, "policy_refused"),
        ({"events": [event(1, "failed", "The responder itself has failed: KeyError: x")]}, "responder_failed"),
        (
            {"approvals": [(question("i1", "q"), Decision(approval_id="q", approved=False, by="ada", decided_at=0))]},
            "approval_rejected",
        ),
    ],
)
def test_reason_of_the_escalation_is_the_error_type(more: dict[str, Any], error: str) -> None:
    escalated = incident(outcome=None, closed_at=None, status=IncidentStatus.ESCALATED)

    assert told(incident=escalated, **more).error_type == error


def test_rejections_policy_and_kill_switch_are_guardrail_events() -> None:
    run = told(
        event(1, EventKind.OPENED),
        event(2, EventKind.APPROVAL_ASKED, "A person is asked."),
        event(3, EventKind.PAUSED, "ada has paused everything."),
        event(4, EventKind.APPROVAL_DECIDED, "bob has rejected it.", content={"decision": {"approved": False}}),
        event(5, "stood_down", "Somebody else acts."),
        event(6, "refused", "restart-cache: the budget is used up."),
    )

    assert [(each.type, each.message) for each in run.guardrail_events] == [
        ("approval", "A person is asked."),
        ("kill switch", "ada has paused everything."),
        ("approval", "bob has rejected it."),
        ("stand-down", "Somebody else acts."),
        ("policy", "restart-cache: the budget is used up."),
    ]
    assert named(run.steps)[1:] == [
        ("approve", "failure", "approval_rejected"),
        ("plan", "skipped", None),
        ("plan", "skipped", None),
    ]


def test_open_incident_is_a_running_run() -> None:
    asked = act(status=ActionStatus.ASKED)
    waiting = told(event(1, EventKind.APPROVAL_ASKED), incident=incident(outcome=None, closed_at=None, status="open"))
    acting = told(
        event(1, EventKind.ACT_ASKED, content={"act": asked.model_dump(mode="json")}),
        actions=[asked],
        incident=incident(outcome=None, closed_at=None, status="open"),
    )

    assert [step.status.value for step in (*waiting.steps, *acting.steps)] == ["running", "running"]
    assert [call.status.value for call in acting.tool_calls] == ["running"]


def test_model_cost_is_the_cost_of_the_run() -> None:
    content = {"call_id": "c", "prompt_tokens": 900, "completion_tokens": 100, "usd": 0.25, "took_s": 1.5}
    run = told(
        event(1, "model_answered", content={**content, "outcome": "ok"}),
        event(2, "model_failed", "Too late.", content={**content, "outcome": "llm_timeout"}),
    )

    assert run.cost is not None
    assert run.cost.tokens_prompt == 1_800
    assert run.cost.tokens_completion == 200
    assert run.cost.total_cost_usd == 0.5
    assert [(call.status.value, call.error_class) for call in run.tool_calls] == [
        ("success", None), ("failure", "llm_timeout"),
    ]  # fmt: skip


def test_clock_set_back_gives_no_step_that_ends_before_its_start() -> None:
    run = told(
        event(1, EventKind.OPENED),
        event(2, "looked", content={**LOOKS, "began_us": OPENED_US + 3_600 * SECOND_US}),
        event(3, "gathered", at=OPENED_US - 60 * SECOND_US),
        event(4, EventKind.CLOSED, at=CLOSED_US),
    )

    assert all(step.ended_at is not None and step.started_at <= step.ended_at for step in run.steps)
    assert [call.started_at for call in run.tool_calls] == [OPENED_US + 2 * SECOND_US] * 2


def test_analysis_quotes_the_first_failure() -> None:
    """Analyse an incident in which no action helped."""
    whole = two_attempts()
    events = [*whole.events[:7], event(8, "escalated", "A person is needed. Nothing is left to try.")]
    escalated = incident(outcome=None, closed_at=None, status="escalated", recommendation="A person is needed.")
    report = analyze(agent_run_of(replace(whole, events=events, actions=whole.actions[:1], incident=escalated)))

    assert report.attribution is not None
    quoted = " ".join(item.snippet for item in report.evidence_index)
    assert "use-path has not helped: Errors are at 30 %" in quoted
    assert report.category != "planner_loop"


def test_error_of_an_escalated_incident_that_is_over_is_the_reason_of_the_last_handover() -> None:
    events = [
        event(4, "escalated", "A person is needed. First."), event(5, "escalated", "A person is needed. Last."),
        event(6, EventKind.CLOSED, "ann closed it."),
    ]  # fmt: skip
    closed = incident(outcome=IncidentOutcome.CLOSED_BY_PERSON, recommendation="ann closed it.")

    run = told(*events, incident=closed)

    assert run.status.value == "failure"
    assert run.error_message == "A person is needed. Last."


def test_analysis_of_a_failed_action_names_the_action_and_its_error() -> None:
    refused = act(
        key="k1", action="restart-cache", status=ActionStatus.FAILED, error="permission denied: /run/cache.sock"
    )
    events = [*tried(1, refused), event(4, "escalated", "A person is needed.")]
    escalated = incident(outcome=None, closed_at=None, status="escalated", recommendation="A person is needed.")
    report = analyze(told(*events, actions=[refused], incident=escalated))

    assert report.category == "tool_permission"
    assert report.attribution is not None
    assert report.attribution.call_id == "act.2"


def test_repeated_probes_are_not_a_loop_and_their_facts_not_errors() -> None:
    facts = {"database.failure": "timeout", "logs": "Error: rate limit exceeded (429)"}
    looks = [{"look": "service", "requests": ["r"], "facts": facts, "absent": {}}]
    events = [event(number, "looked", content={"began_us": OPENED_US, "looks": looks}) for number in range(1, 30)]
    failing = act(key="k1", effect=RepairResult.FAILED)
    escalated = incident(outcome=None, closed_at=None, status="escalated", recommendation="A person is needed.")
    report = analyze(told(*events, *tried(31, failing, verified(34, "failed")), actions=[failing], incident=escalated))

    assert report.category not in {"planner_loop", "rate_limit", "timeout"}


_ANY: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=20), inner, max_size=4),
    max_leaves=10,
)
_ROW = st.fixed_dictionaries(
    {"look": st.text(max_size=30)}, optional=dict.fromkeys(("facts", "absent", "requests"), _ANY)
)
_CONTENTS = st.fixed_dictionaries(
    {},
    optional={
        **dict.fromkeys(("act", "outcome", "decision", "began_us", "took_s", "usd", "prompt_tokens", "call_id"), _ANY),
        "looks": _ANY | st.lists(_ROW, max_size=3),
    },
)
_KINDS = [
    "opened", "looked", "gathered", "diagnosed", "planned", "act_asked", "act_finished", "act_effect", "verified",
    "approval_asked", "approval_decided", "stood_down", "paused", "failed", "escalated", "closed", "odd", "signals",
    "model_answered", "model_failed", "not_asked", "not_undone",
]  # fmt: skip
_EVENTS = st.lists(
    st.tuples(st.sampled_from(_KINDS), st.text(max_size=30), _CONTENTS, st.integers(-100, 100)), max_size=8
)


@given(_EVENTS)
def test_any_timeline_is_a_run_that_can_be_analysed(rows: list[tuple[str, str, dict[str, Any], int]]) -> None:
    events = [
        event(seq, kind, message, content=content, at=OPENED_US + second * SECOND_US)
        for seq, (kind, message, content, second) in enumerate(rows, 1)
    ]
    run = told(*events, actions=[act()], incident=incident(outcome=None, closed_at=None, status="escalated"))

    assert len({step.step_id for step in run.steps}) == len(run.steps)
    assert len({call.call_id for call in run.tool_calls}) == len(run.tool_calls)
    assert analyze(run).summary
