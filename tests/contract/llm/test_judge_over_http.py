"""The judge with a model over HTTP, for each provider: its answers are parsed, and a failing model names no step."""

from __future__ import annotations

import json
from typing import Any

import pytest

from relab.llm import BudgetLimits, LangChainGateway
from relab.rca.analyzer import analyze
from relab.rca.evidence import RunView
from relab.rca.judge.judge import Judge
from relab.rca.judge.methods import build_prompt
from relab.rca.judge.session import JudgeLimits
from relab.rca.judge.transcript import Transcript
from relab.rca.judge_models import JudgeVerdict
from relab.rca.models import JudgeMethod
from relab.telemetry.models import AgentRun
from support.llm.words import MakeGateway
from support.rca.judges import Answers
from support.telemetry.runs import failed_run, step

MAX_CHARS = 100_000


@pytest.fixture
def run() -> AgentRun:
    steps = [step(f"s{n}", n, output_summary=f"what turn {n} said about it") for n in range(3)]
    return AgentRun.model_validate(failed_run("r", steps=steps))


def verdict_of(gateway: LangChainGateway, run: AgentRun, method: JudgeMethod) -> JudgeVerdict:
    limits = JudgeLimits(BudgetLimits(), 60.0, 60_000)
    judge = Judge(gateway, model=gateway.model, limits=limits)
    found = judge.judge(analyze(run), run, method, Answers()).judge
    assert found is not None
    return found


def code_for(run: AgentRun, name: str, **facts: Any) -> str:
    return build_prompt(name, Transcript(RunView(run), MAX_CHARS).excerpt(range(3), **facts).data)[1]


def test_answer_for_the_whole_run_is_read(server: Any, make_gateway: MakeGateway, run: AgentRun) -> None:
    said = {"code": code_for(run, "all_at_once"), "step": 1, "quote": "turn 1 said", "reason": "", "confidence": "low"}
    server.will(server.say(json.dumps(said)))

    verdict = verdict_of(make_gateway(), run, JudgeMethod.ALL_AT_ONCE)

    assert [found.step_id for found in verdict.steps] == ["s1"]
    assert (verdict.stated_confidence, verdict.calls) == ("low", 1)
    assert verdict.prompt_tokens > 0


def test_answer_with_an_order_is_read(server: Any, make_gateway: MakeGateway, run: AgentRun) -> None:
    ranks = [int(candidate.step_id[1:]) for candidate in analyze(run).candidates]
    code = code_for(run, "rerank", candidates=ranks)
    order = [{"step": each, "quote": f"turn {each} said", "reason": ""} for each in reversed(ranks)]
    server.will(server.say(json.dumps({"code": code, "order": order, "confidence": "high"})))

    verdict = verdict_of(make_gateway(), run, JudgeMethod.RERANK)

    assert [found.step_id for found in verdict.steps] == [f"s{each}" for each in reversed(ranks)]


@pytest.mark.parametrize("way", ["prose", "empty", "500", "huge"])
def test_broken_model_names_no_step(server: Any, make_gateway: MakeGateway, run: AgentRun, way: str) -> None:
    behaviours = {
        "prose": server.say("Step 1, I think."),
        "empty": server.raw(b'{"choices": [], "content": []}'),
        "500": server.raw(b"{}", status=500),
        "huge": server.flood,
    }
    server.will(behaviours[way])

    verdict = verdict_of(make_gateway(max_retries=0), run, JudgeMethod.BINARY_SEARCH)

    assert verdict.steps == ()
    assert verdict.fallback is not None
