"""The judge's opinion in the note of a report: fits one screen, in Markdown and HTML, with all texts escaped."""

from __future__ import annotations

import io
from typing import Any

from rich.console import Console

from relab.cli.rca.note import HEIGHT, print_note
from relab.llm import BudgetLimits, LlmUnavailableError, ScriptedGateway
from relab.rca.analyzer import analyze
from relab.rca.judge.judge import Judge
from relab.rca.judge.session import JudgeLimits
from relab.rca.models import JudgeMethod
from relab.rca.notes.composition import compose_note
from relab.rca.notes.markdown import to_markdown
from relab.rca.notes.models import RunNote
from relab.rca.notes.page import render_note_page
from support.rca.judges import Answers, StepJudge
from support.telemetry.runs import step
from unit.rca.builders import agent_run


def note_with(number: int | None, name: str = "Plan", **changes: Any) -> RunNote:
    steps = [step(f"s{n}", n, name=name, agent_name="a", output_summary=f"what turn {n} said") for n in range(6)]
    run = agent_run(steps=steps)
    gateway = StepJudge(number, lambda answer: {**answer, **changes})
    judge = Judge(gateway, model="scripted", limits=JudgeLimits(BudgetLimits(), 60.0, 60_000))
    report = judge.judge(analyze(run), run, JudgeMethod.ALL_AT_ONCE, Answers())
    return compose_note("a-1", run.run_id, report, run)


def test_note_shows_the_opinion_of_the_judge_and_its_cost() -> None:
    assert note_with(2, reason="Turn 2 said it.").judge == (
        "Judge (all_at_once by scripted: 1 call, 110 tokens, 0.0010 USD): Plan [s2] of a: Turn 2 said it"
        " (the model calls its confidence high; this is not a probability)."
    )


def test_note_gives_the_reason_why_the_judge_names_no_step() -> None:
    assert note_with(2, code="x").judge == (
        "Judge (all_at_once by scripted: 1 call, 110 tokens, 0.0010 USD): no step, because the model's answer was dropped"
        " (wrong_code); the local ranking remains. Dropped: 1 x wrong_code."
    )


def test_note_with_a_judge_fits_one_screen() -> None:
    screen = io.StringIO()
    print_note(note_with(2), Console(file=screen, width=100))
    lines = screen.getvalue().splitlines()

    assert len(lines) <= HEIGHT
    assert any(line.startswith("Judge (all_at_once") for line in lines)


def test_note_on_one_screen_shows_what_to_change_when_the_model_fails() -> None:
    failure = LlmUnavailableError(
        f"The model server http://models.example:8080 cannot be reached, or closed the connection ({'Connect' * 8}Error).",
        remedy="Check RELAB_LLM__BASE_URL, the server and the network.",
    )
    run = agent_run(steps=[step(f"s{n}", n, output_summary=f"what turn {n} said") for n in range(6)])
    judge = Judge(ScriptedGateway([failure]), model="m", limits=JudgeLimits(BudgetLimits(), 60.0, 60_000))
    report = judge.judge(analyze(run), run, JudgeMethod.ALL_AT_ONCE, Answers())
    screen = io.StringIO()
    print_note(compose_note("a-1", run.run_id, report, run), Console(file=screen, width=100))

    assert "Check RELAB_LLM__BASE_URL" in " ".join(screen.getvalue().split())


def test_names_of_steps_are_escaped_in_the_opinion() -> None:
    note = note_with(2, name="<script>x</script> [link](http://evil.example)")

    assert "<script>x" not in to_markdown(note)
    assert "<script>x" not in render_note_page(note, libraries="")
