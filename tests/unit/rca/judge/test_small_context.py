"""The judge with a model whose context is small: it reads the steps around the local candidates, or sends no request."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from relab.llm import BudgetLimits
from relab.rca.analyzer import analyze
from relab.rca.judge.judge import Judge
from relab.rca.judge.session import JudgeLimits
from relab.rca.judge_models import JudgeVerdict
from relab.rca.models import JudgeMethod
from relab.settings.sections import RcaSettings
from support.rca.judges import Answers, StepJudge, read_prompt
from support.telemetry.runs import step
from unit.rca.builders import agent_run

SMALLEST = 1_500
"""The smallest context that the settings accept, in tokens; a model with 2,048 tokens then has room for its answer."""


def judged(gateway: StepJudge, method: JudgeMethod, *texts: str, context_tokens: int) -> JudgeVerdict:
    run = agent_run(steps=[step(f"s{n}", n, output_summary=text) for n, text in enumerate(texts)])
    limits = JudgeLimits(BudgetLimits(), 600.0, context_tokens)
    verdict = Judge(gateway, model="scripted", limits=limits).judge(analyze(run), run, method, Answers()).judge
    assert verdict is not None
    return verdict


def test_smallest_context_in_the_settings() -> None:
    assert RcaSettings(judge_context_tokens=SMALLEST).judge_context_tokens == SMALLEST
    with pytest.raises(ValidationError, match="greater than or equal to 1500"):
        RcaSettings(judge_context_tokens=SMALLEST - 1)


def test_small_context_shows_the_steps_around_a_candidate() -> None:
    texts = [*("we talk on and on about it" for _ in range(40)), "exitcode: 1 (execution failed)\nCode output: lost"]
    gateway = StepJudge(39)
    verdict = judged(gateway, JudgeMethod.ALL_AT_ONCE, *texts, context_tokens=SMALLEST)
    _, data = read_prompt(gateway.prompts[0])

    assert gateway.prompts[0].most_tokens() <= SMALLEST
    assert {39, 40} <= {each["step"] for each in data["steps"]}
    assert [found.step_id for found in verdict.steps] == ["s39"]


@pytest.mark.parametrize("method", [JudgeMethod.ALL_AT_ONCE, JudgeMethod.STEP_BY_STEP, JudgeMethod.BINARY_SEARCH])
def test_no_request_is_sent_if_no_step_fits_the_context(method: JudgeMethod) -> None:
    gateway = StepJudge(0)
    verdict = judged(gateway, method, "look for the order", "it was your own fault", context_tokens=830)

    assert gateway.prompts == []
    assert verdict.steps == ()
    assert verdict.fallback is not None
    assert "No step fits a prompt of 830 tokens. Raise RELAB_RCA__JUDGE_CONTEXT_TOKENS" in verdict.fallback
