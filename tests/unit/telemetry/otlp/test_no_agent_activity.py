"""Traces without agent activity: which traces they are."""

from __future__ import annotations

from typing import Any

import pytest
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from unit.telemetry.otlp.builders import AGENT, CHAT, TOOL, exception, record_of_spans, span

QUERY = {"db.system.name": "sqlite", "db.query.text": "PRAGMA wal_checkpoint"}
NO_ACTIVITY = ("unknown", "no_agent_activity")
CREATED = {"gen_ai.operation.name": "create_agent", "gen_ai.agent.name": "shop-agent", "gen_ai.request.model": "gpt-x"}


def outcome_of(*spans: Span, resource: dict[str, Any] | None = None) -> tuple[str, str | None]:
    row = record_of_spans(*spans, resource=resource).row
    return row.outcome, row.outcome_rule


def test_trace_of_a_programs_own_functions_has_no_agent_activity() -> None:
    assert outcome_of(span("root", attributes=QUERY, end=9), span("inner", "root", start=1)) == NO_ACTIVITY


def test_creation_of_an_agent_is_no_activity_of_it() -> None:
    assert outcome_of(span("root", attributes=CREATED)) == NO_ACTIVITY
    assert outcome_of(span("root", attributes=CREATED, status=2, message="no such model"))[0] == "failed"


@pytest.mark.parametrize("known", [AGENT, CHAT, TOOL, {"gen_ai.operation.name": "invoke_workflow"}])
def test_span_with_a_role_makes_an_agent_run(known: dict[str, Any]) -> None:
    assert outcome_of(span("root", end=9), span("known", "root", known))[1] != NO_ACTIVITY[1]


def test_span_of_an_operation_without_a_role_that_names_its_agent_makes_an_agent_run() -> None:
    named = {"gen_ai.operation.name": "assess_risk", "gen_ai.agent.name": "risk-desk"}
    assert outcome_of(span("root", attributes=named, end=9)) == ("succeeded", "no_unrecovered_error")


@pytest.mark.parametrize("talk", ["gen_ai.input.messages", "gen_ai.output.messages"])
def test_question_or_answer_makes_an_agent_run(talk: str) -> None:
    role = "user" if "input" in talk else "assistant"
    said = f'[{{"role": "{role}", "content": "Where is order A-17?"}}]'
    assert outcome_of(span("root", attributes={talk: said})) == ("succeeded", "no_unrecovered_error")


def test_trace_that_failed_or_has_no_end_stays_a_run() -> None:
    assert outcome_of(span("root", status=2, message="out of memory")) == ("failed", "reported_failure")
    assert outcome_of(span("root", events=[exception()])) == ("failed", "reported_failure")
    assert outcome_of(span("root", end=None)) == ("unknown", "not_finished")
    assert outcome_of(span("inner", "root")) == ("unknown", "not_finished")


def test_error_that_the_root_survived_is_no_agent_activity() -> None:
    """opencode reports that its files of settings do not exist yet."""
    assert outcome_of(span("root", end=9), span("inner", "root", events=[exception()])) == NO_ACTIVITY


@pytest.mark.parametrize("named", [{"session.id": "s-1"}, {"user.id": "u-1"}])
def test_trace_that_names_a_conversation_or_a_user_stays_a_run(named: dict[str, Any]) -> None:
    assert outcome_of(span("root", attributes=named)) == ("succeeded", "no_unrecovered_error")


def test_trace_of_a_trial_without_agent_activity_is_no_further_run() -> None:
    """Codex CLI exports some thirty traces of its functions in each trial; the trial is a run of its own."""
    resource = {"relab.agent_run_id": "trial-1", "relab.task_id": "task_1"}
    assert outcome_of(span("root"), resource=resource) == NO_ACTIVITY
    assert (
        outcome_of(span("root", attributes={"gen_ai.operation.name": "invoke_agent"}), resource=resource)[0]
        == "succeeded"
    )
