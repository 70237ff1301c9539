"""The tau-bench converter on a small trial shaped like the real ones."""

from __future__ import annotations

import json
from typing import Any

import pytest

from evals.datasets.tau_bench import agent_run_of_trial, first_wrong_turn, messages_of_trial, report_failed
from relab.core.json import parse_json
from relab.telemetry.models import AgentRun, RunStatus, StepStatus


def request(name: str, arguments: str, call_id: str) -> dict[str, Any]:
    function = {"name": name, "arguments": arguments}
    return {"role": "assistant", "content": None, "tool_calls": [{"id": call_id, "function": function}]}


def result(name: str, content: str, call_id: str) -> dict[str, Any]:
    return {"role": "tool", "name": name, "tool_call_id": call_id, "content": content}


def trial(reward: float = 0.0) -> dict[str, Any]:
    return {
        "task_id": 7,
        "trial": 2,
        "reward": reward,
        "info": {
            "task": {"instruction": "SECRET instruction", "actions": [{"name": "SECRET gold action"}]},
            "reward_info": {"info": {"gt_data_hash": "SECRET"}},
        },
        "traj": [
            {"role": "system", "content": "# Policy"},
            {"role": "user", "content": "Change my flight."},
            {"role": "assistant", "content": "Your id?"},
            {"role": "user", "content": "mia_1"},
            request("get_user", '{"user_id": "mia_1"}', "call_x"),
            result("get_user", '{"name": "Mia"}', "call_x"),
            request("update", '{"flights": []}', "call_x"),
            result("update", "Error: gift card balance is not enough", "call_x"),
            {"role": "assistant", "content": "It failed."},
            {"role": "user", "content": "###STOP###"},
        ],
    }


def converted(record: dict[str, Any]) -> AgentRun:
    return AgentRun.model_validate(parse_json(json.dumps(agent_run_of_trial(record)).encode()))


@pytest.mark.parametrize(("reward", "status"), [(1.0, RunStatus.SUCCESS), (0.0, RunStatus.FAILURE)])
def test_the_reward_is_the_outcome(reward: float, status: RunStatus) -> None:
    assert converted(trial(reward)).status is status


def test_ids_name_task_and_trial() -> None:
    run = converted(trial())
    assert run.run_id == "tau-airline-7-2"
    assert run.task_id == "tau-airline-7"


def test_assistant_turns_are_steps_with_the_preceding_user_message() -> None:
    run = converted(trial())
    assert [(step.step_id, step.name, step.input_summary, step.output_summary) for step in run.steps] == [
        ("turn-2", "reply", "Change my flight.", "Your id?"),
        ("turn-4", "call get_user", "mia_1", None),
        ("turn-6", "call update", None, None),
        ("turn-8", "reply", None, "It failed."),
    ]


def test_calls_have_their_own_ids_though_the_log_reuses_its_ids() -> None:
    run = converted(trial())
    assert [(call.call_id, call.step_id, call.tool_name, call.args_json) for call in run.tool_calls] == [
        ("call-5", "turn-4", "get_user", {"user_id": "mia_1"}),
        ("call-7", "turn-6", "update", {"flights": []}),
    ]


def test_a_refused_call_fails_with_the_verbatim_text() -> None:
    passed, refused = converted(trial()).tool_calls
    assert passed.status == StepStatus.SUCCESS
    assert passed.error_message is None
    assert refused.status is StepStatus.FAILURE
    assert refused.error_message == refused.result_summary == "Error: gift card balance is not enough"


def test_a_result_that_only_mentions_an_error_is_a_success() -> None:
    record = trial()
    record["traj"][7]["content"] = "Done. No Error: all fine."
    assert converted(record).tool_calls[1].status is StepStatus.SUCCESS


def test_times_keep_the_order_and_give_no_durations() -> None:
    run = converted(trial())
    steps = [(step.started_at, step.step_id) for step in run.steps]
    calls = [(call.started_at, call.call_id) for call in run.tool_calls if call.started_at is not None]
    assert [name for _, name in sorted(steps + calls)] == ["turn-2", "turn-4", "call-5", "turn-6", "call-7", "turn-8"]
    assert all(step.effective_latency_ms is None for step in run.steps)
    assert all((call.ended_at, call.latency_ms) == (None, None) for call in run.tool_calls)


def test_the_control_differs_in_outcome_and_name_only() -> None:
    body = agent_run_of_trial(trial(1.0))
    control = report_failed(body)
    assert {key for key in body if body[key] != control[key]} == {"run_id", "environment", "status"}
    assert body["status"] == "success"
    assert control["status"] == "failure"


def test_solution_of_the_task_does_not_reach_the_body() -> None:
    text = json.dumps(agent_run_of_trial(trial()))
    assert "SECRET" not in text
    assert "reward" not in text


def booking(seats: int) -> dict[str, Any]:
    return {"name": "book_reservation", "kwargs": {"seats": seats}}


def failed_trial(gold: list[dict[str, Any]], *middle: dict[str, Any]) -> dict[str, Any]:
    """A trial with the messages 0 to 3, the given ones, and a last message of the agent."""
    turns = [*trial()["traj"][:4], *middle, {"role": "assistant", "content": "Done."}]
    return {**trial(), "info": {"task": {"actions": gold}}, "traj": turns}


BOOKED = (request("book_reservation", '{"seats": 2}', "a"), result("book_reservation", "{}", "a"))
READ = (request("get_user", '{"user_id": "mia_1"}', "b"), result("get_user", "{}", "b"))


def test_write_that_is_no_gold_action_is_the_first_wrong_turn() -> None:
    assert first_wrong_turn(failed_trial([booking(3)], *READ, *BOOKED)) == "turn-6"


def test_gold_action_that_is_repeated_is_the_first_wrong_turn() -> None:
    assert first_wrong_turn(failed_trial([booking(2)], *BOOKED, *BOOKED)) == "turn-6"


def test_hand_over_is_the_first_wrong_turn() -> None:
    hand_over = (request("transfer_to_human_agents", "{}", "c"), result("transfer_to_human_agents", "ok", "c"))
    assert first_wrong_turn(failed_trial([booking(2), booking(3)], *BOOKED, *hand_over)) == "turn-6"


def test_trial_without_a_wrong_write_went_wrong_at_its_end() -> None:
    assert first_wrong_turn(failed_trial([booking(2), booking(3)], *BOOKED)) == "turn-6"


def test_write_that_was_rejected_is_ignored() -> None:
    rejected = (BOOKED[0], result("book_reservation", "Error: no seats", "a"))
    assert first_wrong_turn(failed_trial([booking(3)], *rejected)) == "turn-6"


def test_messages_are_steps_of_their_roles() -> None:
    run = AgentRun.model_validate(parse_json(json.dumps(messages_of_trial(trial())).encode()))
    assert [(step.step_id, step.agent_name) for step in run.steps[:5]] == [
        ("turn-1", "user"),
        ("turn-2", "assistant"),
        ("turn-3", "user"),
        ("turn-4", "assistant"),
        ("turn-5", "tool"),
    ]
    assert {call.step_id for call in run.tool_calls} == {"turn-4", "turn-6"}


def test_messages_show_nothing_of_the_gold_actions() -> None:
    assert "SECRET" not in json.dumps(messages_of_trial(trial()))
