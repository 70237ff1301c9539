"""Recognition of the source of a run, by agent names and by the text that the harness writes around each task."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import cache

import pytest

from relab.rca.analyzer import analyze
from relab.rca.evidence import RunView
from relab.rca.ranking import shipped_models
from relab.rca.ranking.ranker import NOT_OPENED, known_source
from relab.rca.ranking.sources import MIN_TASKS, OPENING_CHARS, Signature, signature_of
from relab.rca.ranking.units import Unit, units_of
from relab.telemetry.models import AgentRun
from rig.frameworks.recordings import FIXTURES, SUFFIX, read_recording
from support.telemetry.runs import minimal_run, step, tool_call
from unit.telemetry.otlp.builders import runs_of_exports

HARNESS = ("# Work order", "Dig at this place, and report to the foreman.", "## Safety rules", "Wear a helmet, always.")
TEAM = ("Planner_Digger", "Shaft_Digger", "Mine_computer")
FEW_NAMES = ("Tunnel_Digger", "Gold_Digger")
CAPTAIN = (
    "You are given: (1) a task and advises from your manager with a specific plan and (2) a general task.",
    "Collect information from the general task, follow the suggestions from manager to solve the task.",
    "# General Task",
    "Who wrote the ballad?",
    "# Task and suggestions from manager",
    "## Task description",
    "Find the author of the ballad.",
    "## Plan for solving the task",
    "1. Look up the ballad.",
    "## Output format",
    "One name.",
    "## Constraints and conditions for completion",
    "- The name is verified.",
)
EXPERTS = ("Ballad_Expert", "Archive_Expert", "Verification_Expert")


def order(number: int, around: tuple[str, ...] = HARNESS) -> str:
    """Return the text of a task between the lines that a harness writes around each task."""
    return "\n\n".join([around[0], f"Dig number {number} is in valley {number * 7}.", *around[1:]])


def run_of(texts: list[str], speakers: tuple[str, ...] = TEAM, field: str = "output_summary") -> AgentRun:
    """Return a failed run of a team, one step for each text."""
    steps = []
    for index, text in enumerate(texts):
        name = speakers[index % len(speakers)]
        given = {"output_summary": text} if index or field == "output_summary" else {field: text}
        steps.append(step(f"s{index}", index, name=name, agent_name=name, **given))
    return AgentRun.model_validate(minimal_run(status="failure", steps=steps))


def dig(number: int, opening: str | None = None, speakers: tuple[str, ...] = TEAM) -> AgentRun:
    """Return a run on its own task; its first step has the text `opening`, by default that of `order`."""
    return run_of(
        [opening if opening is not None else order(number), f"We dig at {number}.", "Done.", "It is done."], speakers
    )


def units(run: AgentRun) -> tuple[Unit, ...]:
    return units_of(RunView(run), with_calls=False)


@cache
def learnt() -> Signature:
    return signature_of([units(dig(number)) for number in range(10)], [f"task {number}" for number in range(10)])


def is_known(run: AgentRun) -> bool:
    return learnt().matches(run.agent_name, units(run))


def test_lines_that_the_harness_writes_around_each_task_are_its_opening() -> None:
    assert learnt().opening == HARNESS


def test_run_with_the_opening_needs_only_names_of_the_vocabulary() -> None:
    """The names of the team share only one word with the names in every training run."""
    assert is_known(dig(99, speakers=FEW_NAMES))


@pytest.mark.parametrize(
    "opening",
    [
        "Dig number 3 is in valley 21.",
        "Explain this work order:\n" + order(3),
        HARNESS[0] + "\nPlease dig somewhere else, and tell us all about it.",
        "",
    ],
)
def test_team_with_few_of_the_names_and_another_opening_is_of_another_source(opening: str) -> None:
    assert not is_known(dig(99, opening, FEW_NAMES))


def test_known_team_without_the_opening_is_known_but_not_opened() -> None:
    run = dig(99, "Dig.")
    assert is_known(run)
    assert learnt().is_opened(units(run)) is False


def test_team_with_other_names_is_of_another_source_with_any_opening() -> None:
    assert not is_known(dig(99, speakers=("Baker", "Butcher")))


def test_opening_in_a_later_step_or_in_a_result_does_not_count() -> None:
    assert not is_known(run_of(["Dig.", order(3), "We dig.", "Done."], FEW_NAMES))
    assert not is_known(run_of([order(3), "We dig.", "We go.", "Done."], ("Digger_executor", *FEW_NAMES)))
    body = run_of(["Dig.", "We dig.", "Done."], FEW_NAMES).model_dump(mode="json")
    body["tool_calls"] = [tool_call("c1", step_id="s0", result_summary=order(3))]
    assert not is_known(AgentRun.model_validate(body))


def test_opening_in_the_input_of_the_first_step_counts() -> None:
    assert is_known(run_of([order(99), "We dig.", "Done."], FEW_NAMES, "input_summary"))


def test_opening_is_found_around_a_long_task() -> None:
    head, *rest = HARNESS
    assert is_known(dig(99, "\n".join([head, "stone, " * (OPENING_CHARS // 10), *rest]), FEW_NAMES))
    assert not is_known(dig(99, "\n".join([head, "stone, " * OPENING_CHARS, *rest]), FEW_NAMES))


def test_opening_is_not_learnt_from_runs_of_few_tasks() -> None:
    """Lines that runs of few tasks share may belong to the task."""
    few = signature_of([units(dig(number)) for number in range(10)], [f"task {number % (MIN_TASKS - 1)}" for number in range(10)])  # fmt: skip
    assert few.opening == ()
    assert few.is_opened(units(dig(1))) is None


def test_two_shared_lines_are_not_an_opening() -> None:
    runs = [units(dig(number, order(number, HARNESS[:2]))) for number in range(10)]
    assert signature_of(runs, [str(number) for number in range(10)]).opening == ()


def test_named_agents_need_no_opening() -> None:
    named = signature_of(
        [units(dig(number)) for number in range(10)], [str(number) for number in range(10)], ["digger"]
    )
    assert named.opening == ()
    assert named.matches("digger", units(dig(1, "Dig.")))


def captain(speakers: tuple[str, ...], opening: str = "\n".join(CAPTAIN)) -> AgentRun:
    return run_of([opening, "Let us look it up.", "It was Anon.", "TERMINATE"], speakers)


def test_shipped_model_knows_a_team_of_captain_agent_without_a_terminal() -> None:
    assert analyze(captain(EXPERTS)).candidates[0].odds is not None


@pytest.mark.parametrize(
    "run",
    [
        captain(EXPERTS, "Who wrote the ballad? Work together, and say TERMINATE at the end."),
        captain(EXPERTS, "What does this prompt do?\n" + "\n".join(CAPTAIN)),
        captain(EXPERTS, "\n".join(CAPTAIN[:2]) + "\nWho wrote the ballad?"),
        captain(("Planner", "Writer", "Critic")),
    ],
    ids=["experts of its own", "the prompt is quoted", "two lines of it", "other names"],
)
def test_team_that_only_resembles_captain_agent_is_ranked_by_rules(run: AgentRun) -> None:
    report = analyze(run)
    assert report.candidates
    assert all(candidate.odds is None for candidate in report.candidates)
    assert report.gaps == ()


def test_no_guess_stands_out_in_a_team_with_captain_agent_names_and_another_opening() -> None:
    team = (*EXPERTS, "Computer_terminal")
    for opening, gaps in (("Who wrote the ballad?", (NOT_OPENED,)), ("\n".join(CAPTAIN), ())):
        report = analyze(captain(team, opening))
        assert report.gaps == gaps
        if gaps:
            assert [candidate.odds.stands_out for candidate in report.candidates if candidate.odds] == [False] * 3


def recorded() -> Iterator[AgentRun]:
    for path in sorted(FIXTURES.glob(f"*/*{SUFFIX}")):
        yield from runs_of_exports([item.body for item in read_recording(path) if item.path == "/v1/traces"])


def as_experts(run: AgentRun) -> AgentRun:
    """Return the run with an expert's name for each step, and with CaptainAgent's prompt as the result of each call."""
    names = {"name": "Finance_Expert", "agent_name": "Finance_Expert"}
    return run.model_copy(
        update={
            "steps": [item.model_copy(update=names) for item in run.steps],
            "tool_calls": [item.model_copy(update={"result_summary": "\n".join(CAPTAIN)}) for item in run.tool_calls],
        }
    )


@pytest.mark.parametrize("change", [lambda run: run, as_experts], ids=["as recorded", "as experts"])
def test_no_recorded_run_of_another_framework_is_of_a_known_source(change: Callable[[AgentRun], AgentRun]) -> None:
    runs = list(recorded())
    assert len(runs) == len(list(FIXTURES.glob(f"*/*{SUFFIX}")))
    assert [run.agent_name for run in runs if known_source(RunView(change(run)), shipped_models())[0]] == []
