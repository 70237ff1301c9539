"""The tau2-bench converter and its computed labels, on a small dialogue shaped like the real ones."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pytest

from evals.datasets.tau2_bench import first_wrong_turn, messages_of_simulation, run_of_simulation
from evals.rca.further_cases import tau2_dialogues
from relab.telemetry.models import AgentRun


def said(role: str, text: str | None, *calls: tuple[str, dict[str, Any]], by: str = "assistant") -> dict[str, Any]:
    found = [{"id": f"{name}-id", "name": name, "arguments": args, "requestor": by} for name, args in calls]
    return {"role": role, "content": text, "tool_calls": found or None}


def answered(name: str, *, by: str = "assistant", error: bool = False) -> dict[str, Any]:
    return {"role": "tool", "id": f"{name}-id", "content": f"result of {name}", "requestor": by, "error": error}


def gold(name: str, by: str = "assistant", **arguments: Any) -> dict[str, Any]:
    return {"name": name, "requestor": by, "arguments": arguments}


RETURN = ("return_delivered_order_items", {"order_id": "1", "item_ids": ["b", "a"]})
REFUEL = ("refuel_data", {"gb_amount": 2})
HAND_OVER = ("transfer_to_human_agents", {"summary": "x"})


def simulation(*messages: dict[str, Any], reward: float = 0.0, trial: int = 0) -> dict[str, Any]:
    return {
        "id": f"{len(messages)}-{trial}-{reward}",
        "task_id": "7",
        "trial": trial,
        "reward_info": {"reward": reward},
        "messages": [said("assistant", "Hi!"), said("user", "Help me."), *messages, said("assistant", "Bye.")],
    }


DIALOGUE = simulation(
    said("assistant", "I return it.", RETURN, ("get_user_details", {})),
    answered(RETURN[0]),
    answered("get_user_details", error=True),
    said("user", None, ("toggle_data", {}), by="user"),
    answered("toggle_data", by="user"),
    said("user", "It works."),
)


def run_of(body: dict[str, Any]) -> AgentRun:
    return AgentRun.model_validate(body)


def test_messages_of_the_agent_are_steps_with_the_calls_and_what_was_said_before() -> None:
    run = run_of(run_of_simulation(DIALOGUE))
    assert [step.step_id for step in run.steps] == ["turn-0", "turn-2", "turn-8"]
    assert [step.input_summary for step in run.steps] == [None, "Help me.", "It works."]
    assert [(call.tool_name, call.step_id, call.status) for call in run.tool_calls] == [
        (RETURN[0], "turn-2", "success"),
        ("get_user_details", "turn-2", "failure"),
    ]


def test_all_messages_are_steps_of_their_roles_without_the_telephone_of_the_customer() -> None:
    run = run_of(messages_of_simulation(DIALOGUE))
    assert [step.agent_name for step in run.steps] == [
        *("assistant", "user", "assistant", "tool", "tool", "user", "assistant"),
    ]
    assert "toggle_data" not in json.dumps(messages_of_simulation(DIALOGUE))


@pytest.mark.parametrize(
    ("wanted", "place"),
    [
        ([gold(RETURN[0], order_id="1", item_ids=["a", "b"])], "turn-8"),
        ([gold(RETURN[0], order_id="2", item_ids=["a", "b"])], "turn-2"),
        ([], "turn-2"),
    ],
)
def test_label_is_the_first_change_that_is_not_wanted_or_the_last_message(
    wanted: list[dict[str, Any]], place: str
) -> None:
    assert first_wrong_turn(DIALOGUE, wanted) == place


def test_numbers_of_equal_size_are_the_same_change_and_failed_changes_do_not_count() -> None:
    record = simulation(said("assistant", None, REFUEL), answered("refuel_data"))
    assert first_wrong_turn(record, [gold("refuel_data", gb_amount=2.0)]) == "turn-4"
    failed = simulation(said("assistant", None, REFUEL), answered("refuel_data", error=True))
    assert first_wrong_turn(failed, []) == "turn-4"


@pytest.mark.parametrize(("wanted", "place"), [([], "turn-2"), ([gold(HAND_OVER[0], summary="y")], "turn-4")])
def test_hand_over_is_the_label_if_it_is_not_wanted(wanted: list[dict[str, Any]], place: str) -> None:
    record = simulation(said("assistant", None, HAND_OVER), answered(HAND_OVER[0]))
    assert first_wrong_turn(record, wanted) == place


def test_failed_first_trials_of_a_domain_are_cases_without_their_gold_actions(tmp_path: Path) -> None:
    (tmp_path / "tau2-bench").mkdir()
    log = {
        "tasks": [{"id": "7", "evaluation_criteria": {"actions": [gold("cancel_pending_order", order_id="SECRET")]}}],
        "simulations": [DIALOGUE, simulation(reward=1.0), simulation(trial=1)],
    }
    with gzip.open(tmp_path / "tau2-bench" / "traces_retail_x.json.gz", "wt", encoding="utf-8") as file:
        json.dump(log, file)
    (case,) = tau2_dialogues(tmp_path, "retail", run_of_simulation)
    assert (case.group, case.truth.step_id, case.truth.agent) == ("7", "turn-2", "assistant")
    assert "SECRET" not in json.dumps(case.body)
    assert list(tau2_dialogues(tmp_path, "telecom", run_of_simulation)) == []
