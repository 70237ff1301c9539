"""Properties that hold for the outcomes of all generated runs."""

from __future__ import annotations

import random
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from relab.telemetry.models import AgentRun
from relab.telemetry.outcome import RunRecovery, activities_of, outcome_of
from relab.telemetry.outcome.recovery import MAX_COMPARISONS, VALUES_PER_COMPARISON
from relab.telemetry.outcome_models import OutcomeReport, RunOutcome
from support.telemetry.runs import RunBody, agent_runs, examples, minimal_run
from unit.telemetry.outcome.cases import bad, good, model

GOODNESS = (RunOutcome.FAILED, RunOutcome.COMPLETED_WITH_ERRORS, RunOutcome.SUCCEEDED)

TOOLS = st.sampled_from(["lookup", "search"])
ARGUMENTS = st.sampled_from(
    [None, {}, {"id": "A-1"}, {"id": "B-2"}, {"id": "A-1", "q": "red shoes size 42"}, {"q": "red shoes"}]
)
ERRORS = st.sampled_from(["timed out", "invalid id", "no such order", "503 unavailable"])
ANSWERS = st.sampled_from([None, "", "It has shipped.", "I'm sorry, I could not look it up."])


@st.composite
def calls(draw: st.DrawFn) -> list[RunBody]:
    items = []
    for second in range(draw(st.integers(0, 6))):
        tool, arguments = draw(TOOLS), draw(ARGUMENTS)
        if draw(st.booleans()):
            items.append(good(f"c{second}", second, tool, arguments))
        else:
            items.append(bad(f"c{second}", second, tool, arguments, error_message=draw(ERRORS)))
    return items


def outcome(items: list[RunBody], answer: str | None = None, steps: list[RunBody] | None = None) -> OutcomeReport:
    run = AgentRun.model_validate(minimal_run(tool_calls=items, answer=answer, steps=steps or []))
    return outcome_of(run, activities_of(run))


@given(body=agent_runs(), seed=st.integers(0, 1_000))
@examples(80)
def test_outcome_does_not_depend_on_the_order_of_the_activities(body: RunBody, seed: int) -> None:
    run = AgentRun.model_validate(body)
    activities = activities_of(run)
    shuffled = random.Random(seed).sample(activities, len(activities))

    assert outcome_of(run, shuffled) == outcome_of(run, activities)


@given(body=agent_runs())
@examples(80)
def test_evidence_is_verbatim_and_short(body: RunBody) -> None:
    run = AgentRun.model_validate(body)
    report = outcome_of(run, activities_of(run))
    sources: dict[tuple[str, str], Any] = {("run", run.run_id): run}
    sources |= {("step", step.step_id): step for step in run.steps}
    sources |= {("tool_call", call.call_id): call for call in run.tool_calls}

    for quote in report.evidence:
        assert quote.text in str(getattr(sources[quote.kind, quote.ref_id], quote.field))
        assert len(quote.text) <= 200
    assert bool(report.evidence) == (report.value is not RunOutcome.SUCCEEDED)


@given(items=calls(), answer=ANSWERS, second=st.integers(0, 8))
@examples(80)
def test_unrelated_good_call_never_makes_a_run_better(items: list[RunBody], answer: str | None, second: int) -> None:
    unrelated = good("extra", second + 0.5, "send_greeting", {"text": "Good morning"})

    assert outcome([*items, unrelated], answer) == outcome(items, answer)


@given(items=calls(), answer=ANSWERS, error=ERRORS)
@examples(80)
def test_failed_call_at_the_end_never_makes_a_run_better(items: list[RunBody], answer: str | None, error: str) -> None:
    more = [*items, bad("last", 20, "lookup", {"id": "Z-9"}, error_message=error)]

    assert GOODNESS.index(outcome(more, answer).value) <= GOODNESS.index(outcome(items, answer).value)
    assert outcome(more, answer).value is not RunOutcome.SUCCEEDED


@given(items=calls(), answer=st.sampled_from([None, "It has shipped."]))
@examples(80)
def test_repeating_every_call_with_success_recovers_everything(items: list[RunBody], answer: str | None) -> None:
    again = [good(f"again-{item['call_id']}", 20, item["tool_name"], item["args_json"]) for item in items]

    assert outcome([*items, *again], answer).value is RunOutcome.SUCCEEDED


@given(items=calls(), answer=ANSWERS)
@examples(100)
def test_calls_of_another_agent_do_not_change_the_failures_of_an_agent(
    items: list[RunBody], answer: str | None
) -> None:
    mine = [{**item, "step_id": "mine"} for item in items]
    steps = [model("mine", 0, agent_name="me"), model("other", 0, agent_name="other")]
    theirs = [
        good(f"other-{item['call_id']}", 20, item["tool_name"], item["args_json"], step_id="other") for item in items
    ]

    assert outcome([*mine, *theirs], answer, steps).value == outcome(mine, answer, steps).value


def test_many_different_failed_calls_need_a_bounded_number_of_comparisons() -> None:
    items = [bad(f"b{n}", n, "lookup", {"id": f"A-{n}"}) for n in range(1_000)]
    items += [good(f"g{n}", 1_000 + n, "lookup", {"id": f"B-{n}"}) for n in range(1_000)]
    run = AgentRun.model_validate(minimal_run(tool_calls=items))
    recovery = RunRecovery(activities_of(run))

    assert recovery.comparisons <= MAX_COMPARISONS
    assert len(recovery.unrecovered_calls) == 1_000


def test_calls_with_many_arguments_are_compared_less_often() -> None:
    arguments = {f"field_{n}": f"value {n} of the failed call" for n in range(50)}
    others = {f"other_{n}": f"text {n} in a later call" for n in range(50)}
    items = [bad(f"b{n}", n, "lookup", {**arguments, "id": f"A-{n}"}) for n in range(50)]
    items += [good(f"g{n}", 50 + n, "lookup", {**others, "id": f"B-{n}"}) for n in range(50)]
    recovery = RunRecovery(activities_of(AgentRun.model_validate(minimal_run(tool_calls=items))))

    # Each comparison has 2,601 pairs of values. Counted once each, the comparisons would not reach the limit.
    assert recovery.comparisons >= MAX_COMPARISONS
    assert recovery.comparisons <= MAX_COMPARISONS + 1 + 2_601 // VALUES_PER_COMPARISON
    assert len(recovery.unrecovered_calls) == 50


def test_many_calls_with_many_arguments_are_each_recovered_by_their_repetition() -> None:
    arguments = {f"field_{n}": f"value {n}" for n in range(20)}
    items = [bad(f"b{n}", n, "lookup", {**arguments, "order_id": f"A-{n}"}) for n in range(40)]
    items += [good(f"g{n}", 40 + n, "lookup", {**arguments, "order_id": f"A-{n}", "again": True}) for n in range(40)]

    recovery = RunRecovery(activities_of(AgentRun.model_validate(minimal_run(tool_calls=items))))

    assert recovery.unrecovered_calls == []
