"""The evaluation of the judge, with scripted models: right answers raise its figures, wrong answers lower them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from evals.rca.__main__ import EXIT_USAGE, main
from evals.rca.cases import ALGORITHM_SET, HAND_SET, Case, Truth
from evals.rca.judging import JudgeMeasured, Judging, measure_judge
from evals.rca.measuring import RULES
from relab.llm import BudgetLimits
from relab.rca.judge.judge import Judge
from relab.rca.judge.session import JudgeLimits
from relab.rca.models import JudgeMethod
from support.rca.judges import StepJudge
from support.telemetry.runs import minimal_run, step

CHANGES = [JudgeMethod.ALL_AT_ONCE, JudgeMethod.STEP_BY_STEP, JudgeMethod.BINARY_SEARCH]


def conversations() -> list[Case]:
    """Return four conversations; in each, the rules rank turns 1, 0 and 4 highest, which is right in two of them."""
    found = []
    for number, wrong in enumerate((1, 1, 0, 4)):
        steps = [step(f"turn-{n}", n, agent_name="ab"[n % 2], output_summary=f"turn {n} of {number}") for n in range(5)]
        body = minimal_run(f"r{number}", status="failure", steps=steps, tool_calls=[])
        found.append(Case("set", f"q{number}", body, Truth(step_id=f"turn-{wrong}", agent="ab"[wrong % 2])))
    return found


def judge_that_names(number_of: Callable[[Case], int | None], **options: Any) -> Callable[[Case], Judging]:
    limits = JudgeLimits(BudgetLimits(), 60.0, 60_000)

    def judge_of(case: Case) -> Judging:
        gateway = StepJudge(number_of(case), **options)
        return Judge(gateway, model="scripted", limits=limits).judge

    return judge_of


def labelled(case: Case) -> int:
    assert case.truth.step_id is not None
    return int(case.truth.step_id.removeprefix("turn-"))


def measured(method: JudgeMethod, judge_of: Callable[[Case], Judging]) -> JudgeMeasured:
    cases = conversations()
    found = measure_judge({HAND_SET: cases, ALGORITHM_SET: cases}, method, judge_of)
    assert found.problems == []
    return found


def hits(found: JudgeMeasured) -> tuple[float, float]:
    """Return the share of cases with the right first step, for the local ranking and for the judge."""
    rows = found.steps[0][1]
    return rows[RULES]["step"].value, rows[f"judge, {found.method}"]["step"].value


@pytest.mark.parametrize("method", CHANGES)
def test_judge_that_knows_the_labels_gains(method: JudgeMethod) -> None:
    assert hits(measured(method, judge_that_names(labelled))) == (0.5, 1.0)


@pytest.mark.parametrize("method", CHANGES)
def test_judge_that_is_always_wrong_loses(method: JudgeMethod) -> None:
    assert hits(measured(method, judge_that_names(lambda case: 4 - (labelled(case) == 4)))) == (0.5, 0.0)


def test_judge_with_invalid_answers_changes_nothing() -> None:
    found = measured(JudgeMethod.ALL_AT_ONCE, judge_that_names(labelled, change=lambda _: "not JSON"))

    assert hits(found) == (0.5, 0.5)
    assert found.cost[HAND_SET].named == 0
    assert found.cost[HAND_SET].dropped == {"invalid_answer": 4}


def test_reranking_moves_the_first_candidate_both_ways() -> None:
    right = measured(JudgeMethod.RERANK, judge_that_names(labelled))
    wrong = measured(JudgeMethod.RERANK, judge_that_names(lambda case: 4 if labelled(case) != 4 else 0))

    assert (hits(right)[1], hits(wrong)[1]) == (1.0, 0.0)


def test_cost_is_summed() -> None:
    cost = measured(JudgeMethod.ALL_AT_ONCE, judge_that_names(labelled)).cost[ALGORITHM_SET]

    assert (cost.runs, cost.named, cost.calls, cost.tokens) == (4, 4, 4, 440)
    assert cost.usd == pytest.approx(0.004)


def test_command_without_a_model_reports_that(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("OPENAI_API_KEY", "ANTHROPIC_API_KEY", "RELAB_LLM__API_KEY", "RELAB_LLM__BASE_URL"):
        monkeypatch.delenv(name, raising=False)

    assert main(["--judge", "rerank"]) == EXIT_USAGE
    assert "No language model is configured" in capsys.readouterr().err
