"""The evaluation of failure attribution, on small cases with known answers."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest

from evals.rca.cases import (
    ALGORITHM_SET,
    HAND_SET,
    PASSING_SET,
    TRAIL_SET,
    Case,
    Truth,
    read_cases,
    without_labelled_evidence,
)
from evals.rca.figures import (
    calibration_error,
    debiased_calibration_error,
    is_agent,
    is_in_top_three,
    is_step,
    is_within_one,
    locate,
    reliability,
    share,
)
from evals.rca.predictions import Prediction, analyse_case
from evals.rca.rules import first_error_word, last_step, strict_rule

LABEL = {
    "mistake_agent": "SECRET agent",
    "mistake_step": "1",
    "mistake_reason": "SECRET reason",
    "ground_truth": "SECRET",
}


def case(*texts: str, step: int = 0, agent: str = "b", group: str = "q") -> Case:
    steps = [
        {
            "step_id": f"turn-{index}",
            "name": "abc"[index % 3],
            "agent_name": "abc"[index % 3],
            "status": "success",
            "started_at": f"2024-01-01T00:00:{index:02d}Z",
            "output_summary": text,
        }
        for index, text in enumerate(texts)
    ]
    body = {
        "run_id": "r",
        "agent_name": "team",
        "environment": "test",
        "started_at": "2024-01-01T00:00:00Z",
        "status": "failure",
        "steps": steps,
        "tool_calls": [],
    }
    return Case("set", group, body, Truth(step_id=f"turn-{step}", agent=agent))


def test_strict_rule_names_the_step_before_the_first_error() -> None:
    run = case("task", "code", "exitcode: 1 (execution failed)", "an Error").run
    assert strict_rule(run).steps == ("turn-1",)
    assert strict_rule(run).agent == "b"


def test_strict_rule_names_the_second_step_without_an_error() -> None:
    assert strict_rule(case("task", "one", "two").run).steps == ("turn-1",)


def test_first_error_word_names_the_first_step_without_an_error() -> None:
    assert first_error_word(case("task", "one", "two", "three").run).steps == ("turn-0",)
    assert first_error_word(case("task", "one", "two", "three").run).agent == "a"


def test_rules_accept_a_run_without_steps() -> None:
    assert strict_rule(case().run) == Prediction()
    assert last_step(case().run) == Prediction()


def test_prediction_is_scored_for_step_neighbour_top_three_and_agent() -> None:
    labelled = case("x", "y", "z", "w", step=1, agent="b")
    found = Prediction(steps=("turn-2", "turn-3", "turn-1"), agent="b")
    assert not is_step(labelled, found)
    assert is_within_one(labelled, found)
    assert is_in_top_three(labelled, found)
    assert is_agent(labelled, found)
    assert not is_within_one(labelled, Prediction(steps=("turn-3",)))
    assert not is_agent(case("x"), Prediction())


def test_share_has_n_and_an_interval_by_groups() -> None:
    pairs = [
        (case("x", group=str(index // 2)), Prediction(steps=("turn-0",) if index < 10 else ())) for index in range(20)
    ]
    figure = share(pairs, is_step)
    assert figure.n == 20
    assert figure.value == 0.5
    assert 0.1 < figure.low < 0.4
    assert 0.6 < figure.high < 0.9


def test_share_of_no_cases_is_not_a_number() -> None:
    assert math.isnan(share([], is_step).value)


def test_spans_are_counted_over_all_traces_together() -> None:
    truth = Truth(spans=frozenset({("s1", "A"), ("s1", "B"), ("s2", "A")}))
    labelled = Case("set", "q", case("x").body, truth)
    found = Prediction(spans=frozenset({("s1", "A"), ("s3", "A")}))
    place = locate([(labelled, found)], with_category=False)
    assert (place.precision.value, place.recall.value, place.f1.value) == (0.5, 0.5, 0.5)
    kind = locate([(labelled, found)], with_category=True)
    assert kind.recall.value == pytest.approx(1 / 3)
    assert kind.f1.value == pytest.approx(0.4)


def test_reliability_compares_stated_probabilities_with_the_share_of_right_answers() -> None:
    right = (case("x", step=0), Prediction(steps=("turn-0",), probability=0.55))
    wrong = (case("x", "y", step=1), Prediction(steps=("turn-0",), probability=0.55))
    silent = (case("x"), Prediction(steps=("turn-0",)))
    table, error = reliability([right, wrong, silent])
    assert [(row.n, row.right) for row in table] == [(2, 0.5)]
    assert error == pytest.approx(0.05)


def test_debiased_calibration_error_subtracts_the_bias_of_chance() -> None:
    cases = [case("task", "wrong", step=1) for _ in range(400)]
    random = np.random.default_rng(0)

    def predictions(stated: float) -> list[tuple[Case, Prediction]]:
        hits = random.random(len(cases)) < 0.4
        return [
            (each, Prediction(steps=(f"turn-{int(hit)}",), probability=stated))
            for each, hit in zip(cases, hits, strict=True)
        ]

    calibrated = [pair for _ in range(3) for pair in predictions(0.4)]
    assert debiased_calibration_error(calibrated) < 0.03 < calibration_error(calibrated[: len(cases)])
    assert debiased_calibration_error(predictions(0.7)) == pytest.approx(0.3, abs=0.05)
    assert debiased_calibration_error([]) == 0


def test_deletion_removes_the_labelled_step_and_its_calls() -> None:
    labelled = case("x", "y", step=1)
    call = {"call_id": "c", "step_id": "turn-1", "tool_name": "t", "status": "success"}
    labelled.body["tool_calls"].append(call)
    deleted = without_labelled_evidence(labelled)
    assert [step["step_id"] for step in deleted.body["steps"]] == ["turn-0"]
    assert deleted.body["tool_calls"] == []
    assert len(labelled.body["steps"]) == 2


def test_analysis_of_a_case_checks_its_evidence() -> None:
    analysed = analyse_case(case("x", "y", "z"), trace_memory=True)
    assert analysed.check.problems == []
    assert analysed.peak_kib > 0
    assert not analysed.prediction.high


def test_labels_do_not_reach_the_bodies(tmp_path: Path) -> None:
    history = [{"name": "a", "role": "user", "content": "task"}, {"name": "b", "role": "user", "content": "answer"}]
    record = {"history": history, "question": "?", "question_ID": "q-1", **LABEL}
    for folder in ("Algorithm-Generated", "Hand-Crafted"):
        (tmp_path / "who-and-when" / folder).mkdir(parents=True)
        (tmp_path / "who-and-when" / folder / "1.json").write_text(json.dumps(record))
    for folder in ("traces", "labels"):
        (tmp_path / "trail-gaia" / folder).mkdir(parents=True)
    (tmp_path / "tau-bench-airline").mkdir()
    trial = {"task_id": 1, "trial": 0, "reward": 1, "traj": [{"role": "assistant", "content": "done"}]}
    (tmp_path / "tau-bench-airline" / "gpt-4o-airline.json").write_text(json.dumps([trial]))

    cases = read_cases(tmp_path)

    assert [len(cases[name]) for name in (ALGORITHM_SET, HAND_SET, TRAIL_SET, PASSING_SET)] == [1, 1, 0, 1]
    assert cases[HAND_SET][0].truth == Truth(step_id="turn-1", agent="SECRET agent")
    assert all("SECRET" not in json.dumps(item.body) for chosen in cases.values() for item in chosen)
    assert cases[PASSING_SET][0].run.status == "failure"
