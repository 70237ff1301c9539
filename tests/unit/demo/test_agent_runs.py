"""Recorded runs of scenarios that fail against the real tool server on loopback."""

from __future__ import annotations

import json

import pytest

from demo.lab_server import poll
from demo.prompt import PROMPT_V1, PROMPT_V2
from demo.scenarios import PARCELS, SCENARIOS
from relab.core.json import parse_json
from relab.telemetry.models import AgentRun, RunStatus, StepStatus


def recorded(run):
    """Parse a run as the API does."""
    return AgentRun.model_validate(parse_json(json.dumps(run).encode()))


def analysed(stage, key):
    """Play a scenario and return the run that the tour analyses."""
    return recorded(stage.play(key)[-1])


def failed_call(run):
    (call,) = [call for call in run.tool_calls if call.status is StepStatus.FAILURE]
    return call


@pytest.mark.parametrize("key", [scenario.key for scenario in SCENARIOS])
def test_every_run_is_a_valid_agent_run_with_times_in_order(stage, key):
    for run in map(recorded, stage.play(key)):
        assert run.started_at <= run.ended_at
        assert run.steps
        ids = {step.step_id for step in run.steps}
        spans = {step.step_id: (step.started_at, step.ended_at) for step in run.steps}
        for call in run.tool_calls:
            assert call.step_id in ids
            start, end = spans[call.step_id]
            # The wall clock may step back between two records, so durations are compared.
            assert call.ended_at - call.started_at <= end - start
            assert call.latency_ms * 1_000 == pytest.approx(call.ended_at - call.started_at, abs=2)
        assert not run.model_extra


def test_run_ids_are_new_each_time(stage):
    ids = [run["run_id"] for _ in range(2) for run in stage.play("prompt")]
    assert len(set(ids)) == len(ids) == 48


def test_invoice_is_refused_for_a_field_that_the_tool_description_lacks(stage):
    run = analysed(stage, "invoice")
    call = failed_call(run)
    assert call.tool_name == "make_invoice"
    assert call.status_code == 400
    assert call.error_class == "HTTPStatusError"
    assert "Missing required field: 'customer_id'" in call.error_message
    assert call.args_json == {"order_number": "5003"}
    assert run.status == RunStatus.FAILURE
    assert run.error_type == "HTTPStatusError"
    assert [step.status for step in run.steps] == [StepStatus.SUCCESS, StepStatus.FAILURE]


def test_agent_fails_without_waiting_when_the_trial_plan_runs_out(stage):
    run = analysed(stage, "quota")
    call = failed_call(run)
    assert call.tool_name == "track_parcel"
    assert call.status_code == 429
    assert call.error_message.startswith("429 Too Many Requests: ")
    assert call.error_message.endswith("Retry-After: 60")
    assert stage.clock.waited_s == []
    assert run.status is RunStatus.FAILURE


def test_agent_waits_and_succeeds_when_the_standard_plan_runs_out(stage):
    run = analysed(stage, "patience")
    assert failed_call(run).error_message.endswith("Retry-After: 1")
    assert stage.clock.waited_s == [1.0]
    assert run.status == RunStatus.SUCCESS
    assert run.error_type is None
    assert run.error_message is None
    assert [step.retries for step in run.steps] == [0, 0, 0, 0, 1, 0]
    assert all(parcel in run.steps[-1].output_summary for parcel in PARCELS)


def test_refund_without_the_scope_is_forbidden(stage):
    call = failed_call(analysed(stage, "refund"))
    assert call.status_code == 403
    assert "lacks the scope refunds:write" in call.error_message


def test_stock_call_times_out(stage):
    run = analysed(stage, "stock")
    call = failed_call(run)
    assert call.error_class == "ReadTimeout"
    assert call.error_message == "timed out"
    assert call.status_code is None
    assert call.latency_ms >= 250
    assert run.error_type == "ReadTimeout"
    assert run.error_message == "timed out"


def test_label_is_requested_until_the_call_budget_is_spent(stage):
    run = analysed(stage, "label")
    assert len(run.tool_calls) == PROMPT_V1.max_calls == 6
    assert len({call.args_fingerprint for call in run.tool_calls}) == 1
    assert len({call.result_summary for call in run.tool_calls}) == 1
    assert {call.status_code for call in run.tool_calls} == {200}
    assert run.error_type == "CallBudgetSpentError"
    (event,) = run.guardrail_events
    assert event.type == "call_budget"
    assert event.step_id == run.steps[-1].step_id


def test_search_without_hits_fails_the_run(stage):
    run = analysed(stage, "help")
    (call,) = run.tool_calls
    assert call.status == StepStatus.SUCCESS
    assert call.result_summary == '{"hits": [], "total": 0}'
    assert run.status == RunStatus.FAILURE
    assert run.error_type == "NoAnswerError"


def test_the_new_prompt_changes_tools_and_outcome(stage):
    runs = [recorded(run) for run in stage.play("prompt")]
    old = [run for run in runs if run.prompt_hash == PROMPT_V1.hash]
    new = [run for run in runs if run.prompt_hash == PROMPT_V2.hash]
    assert runs == old + new
    assert {run.agent_version for run in old} == {"1.0.0"}
    assert {run.agent_version for run in new} == {"1.1.0"}
    assert [run.task_id for run in old] == [run.task_id for run in new]
    assert sum(run.status is RunStatus.SUCCESS for run in old) == 12
    assert sum(run.status is RunStatus.SUCCESS for run in new) == 3
    assert {call.tool_name for run in old for call in run.tool_calls} == {"find_customer", "find_order", "search_help"}
    assert {call.tool_name for run in new for call in run.tool_calls} == {"search_help"}
    assert {call.status for run in new for call in run.tool_calls} == {StepStatus.SUCCESS}
    assert new[-1].error_type == "AnswerRejectedError"


def test_points_tool_fails_with_a_server_error(stage):
    run = analysed(stage, "points")
    call = failed_call(run)
    assert call.tool_name == "credit_points"
    assert call.status_code == 500
    assert "out of balance by 12 on shard 3" in call.error_message
    assert [call.tool_name for call in run.tool_calls] == ["find_customer", "credit_points"]


def test_recorder_outside_the_agent_sees_only_an_internal_server_error(stage):
    run = analysed(stage, "outside")
    assert stage.server.journal.outline(run.run_id)[-1] == "POST /points → 500"
    assert run.status == RunStatus.FAILURE
    assert run.error_type is None
    assert run.error_message == "Internal Server Error"
    assert len(run.steps) == 1
    assert run.tool_calls == []
    assert run.guardrail_events == []


@pytest.mark.parametrize("key", [scenario.key for scenario in SCENARIOS if scenario.key != "outside"])
def test_recorded_statuses_are_those_of_the_server(stage, key):
    for run in map(recorded, stage.play(key)):
        # The server may read a request after the client's time limit.
        assert poll(lambda run=run: len(stage.server.journal.of(run.run_id)) >= len(run.tool_calls), within_s=30)
        answered = [exchange.status for exchange in stage.server.journal.of(run.run_id)]
        assert [call.status_code for call in run.tool_calls] == answered
