"""Gaps in a run: signs that steps were not recorded, and that no guess stands out in such a run."""

from __future__ import annotations

from typing import Any

import pytest

from relab.rca.analyzer import analyze
from relab.rca.models import Report
from relab.rca.ranking import RankingModels
from support.telemetry.runs import step, tool_call
from unit.rca.builders import agent_run
from unit.rca.ranking.test_models import conversation, trained

NO_MODELS = RankingModels()
CODE = "I run this:\n```python\nprint(1)\n```"
RESULT = "exitcode: 0 (execution succeeded)\nCode output: 1"


def report_of(ids: list[str], **fields: Any) -> Report:
    steps = [step(step_id, index, output_summary=f"part {index} of the work") for index, step_id in enumerate(ids)]
    return analyze(agent_run(steps=steps, **fields), models=NO_MODELS)


def report_of_texts(*texts: str) -> Report:
    speakers = ["terminal" if text == RESULT else "coder" for text in texts]
    steps = [
        step(f"step {'abcdefgh'[index]}", index, output_summary=text, agent_name=speakers[index])
        for index, text in enumerate(texts)
    ]
    return analyze(agent_run(steps=steps), models=NO_MODELS)


def test_a_missing_number_in_the_ids_of_steps_is_a_gap() -> None:
    assert report_of(["turn-0", "turn-1", "turn-2", "turn-4"]).gaps == ("the numbers of the steps go from 2 to 4",)


@pytest.mark.parametrize(
    "ids",
    [
        ["turn-0", "turn-1", "turn-2", "turn-3"],
        ["turn-2", "turn-4", "turn-6", "turn-8"],
        ["a", "b", "c", "d"],
        ["plan-1", "act-3", "act-4", "act-5"],
        ["7f3a", "91bc", "0d2e", "11ff"],
    ],
)
def test_ids_that_do_not_number_the_steps_one_by_one_show_no_gap(ids: list[str]) -> None:
    assert report_of(ids).gaps == ()


def test_number_used_by_a_tool_call_is_not_missing() -> None:
    calls = [tool_call("item-3", step_id="item-2")]
    assert report_of(["item-1", "item-2", "item-4", "item-5"], tool_calls=calls).gaps == ()


def test_step_with_a_missing_parent_is_a_gap() -> None:
    steps = [step(name, index, output_summary=f"part {index}") for index, name in enumerate("abcd")]
    steps[3]["parent_step_id"] = "gone"
    assert analyze(agent_run(steps=steps), models=NO_MODELS).gaps == (
        "1 step belongs to a step that the run does not have",
    )


def test_code_result_without_its_code_is_a_gap() -> None:
    gaps = report_of_texts("we plan", CODE, RESULT, "go on", RESULT).gaps
    assert gaps == ("step 'step e' reports how code ran that no step before it contains",)


def test_a_result_after_its_code_is_no_gap() -> None:
    assert report_of_texts("we plan", CODE, RESULT, "go on", CODE, RESULT).gaps == ()


def test_no_guess_stands_out_in_a_run_with_a_gap() -> None:
    run, wrong = conversation(1_000)
    without = run.model_copy(update={"steps": [each for each in run.steps if each.step_id != wrong]})
    whole, cut = (analyze(each, models=trained()).attribution for each in (run, without))
    assert [place is not None and place.odds is not None and place.odds.stands_out for place in (whole, cut)] == [
        True,
        False,
    ]
