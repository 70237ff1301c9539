"""The comparison of a failed run with passing runs: which differences it reports, and from how many runs."""

from __future__ import annotations

from typing import Any

import pytest

from relab.rca.analyzer import analyze
from relab.rca.evidence import RunView
from relab.rca.models import Report
from relab.rca.notes.composition import compose_note
from relab.rca.notes.markdown import to_markdown
from relab.rca.passing import with_comparison
from relab.telemetry.models import AgentRun
from relab.telemetry.past_models import PassedCall, PassingRun, PassingRuns
from support.rca.verbatim import verify_verbatim
from unit.rca.builders import agent_run, call

Call = tuple[str, dict[str, Any]]


def run_with(*tools: str | Call, **fields: Any) -> AgentRun:
    calls = [
        call(
            f"c{n}",
            n,
            tool_name=tool if isinstance(tool, str) else tool[0],
            args_json=None if isinstance(tool, str) else tool[1],
        )
        for n, tool in enumerate(tools)
    ]
    return agent_run(tool_calls=calls, **fields)


def passed(number: int, *tools: str | Call, answer: str | None = None) -> PassingRun:
    calls = tuple(
        PassedCall(
            run_id=f"p{number}",
            call_id=f"p{number}-{n}",
            tool_name=tool if isinstance(tool, str) else tool[0],
            args_json=None if isinstance(tool, str) else tool[1],
        )
        for n, tool in enumerate(tools)
    )
    return PassingRun(run_id=f"p{number}", started_at=number, answer=answer, calls=calls)


def compared(run: AgentRun, *runs: PassingRun, same_task: bool = True) -> Report:
    report = with_comparison(analyze(run), RunView(run), PassingRuns(same_task=same_task, runs=runs))
    assert all(verify_verbatim(run, item, (), runs) for item in report.evidence_index)
    Report.load(report.model_dump(mode="json"))
    return report


def sentences(report: Report) -> list[str]:
    assert report.passing is not None
    return [difference.sentence for difference in report.passing.differences]


def test_missing_tool_that_all_passing_runs_called_before_another_is_reported() -> None:
    runs = [passed(n, "get_reservation", "cancel") for n in range(5)]
    report = compared(run_with("cancel"), *runs)

    assert report.passing is not None
    [missing, diverging] = report.passing.differences
    assert missing.sentence == "5 passing runs of this task called `get_reservation` before `cancel`; this one did not."
    assert (missing.kind, missing.tool_name, missing.call_id, missing.runs) == (
        "missing_tool",
        "get_reservation",
        "c0",
        5,
    )
    assert missing.evidence_ids == ("ev_passing_p0", "ev_tool_c0")
    assert (
        diverging.sentence
        == "The most similar passing run called `get_reservation` as call 1; this one called `cancel`."
    )


def test_quotation_of_a_passing_run_names_its_run_and_call() -> None:
    report = compared(run_with("cancel"), *(passed(n, "get_reservation", "cancel") for n in range(2)))
    item = next(item for item in report.evidence_index if item.kind == "passing_run")

    assert (item.ref_id, item.field, item.snippet) == ("p0", "tool_name", "get_reservation")
    assert item.attributes == {"call_id": "p0-0", "runs": 2}
    assert not verify_verbatim(run_with("cancel"), item)


def test_difference_needs_four_of_five_runs() -> None:
    having = [passed(n, "check", "act") for n in range(4)]

    assert "4 of 5 passing runs" in sentences(compared(run_with("act"), *having, passed(9, "act")))[0]
    assert sentences(compared(run_with("act"), *having[:3], passed(8, "act"), passed(9, "act"))) == []


def test_argument_that_differs_from_all_passing_runs_is_reported() -> None:
    runs = [passed(n, ("book", {"cabin": "economy", "user": f"u{n}"})) for n in range(3)]
    report = compared(run_with(("book", {"cabin": "business", "user": "x"})), *runs)

    assert sentences(report) == [
        '3 passing runs of this task called `book` with `cabin` = `"economy"`; this one with `"business"`.'
    ]


def test_missing_argument_is_reported() -> None:
    runs = [passed(n, ("book", {"cabin": "economy"})) for n in range(2)]

    assert sentences(compared(run_with(("book", {})), *runs))[0].endswith("this one without it.")


def test_argument_with_a_long_value_is_not_called_missing() -> None:
    runs = [passed(n, ("book", {"cabin": "economy"})) for n in range(2)]

    assert sentences(compared(run_with(("book", {"cabin": "x" * 300})), *runs))[0].endswith(
        "this one with another value."
    )


def test_arguments_of_which_only_the_hash_is_known_are_not_compared() -> None:
    runs = [passed(n, ("book", {"cabin": "economy"})) for n in range(2)]
    run = agent_run(tool_calls=[call("c0", tool_name="book", args_json=None, args_hash="0f3a")])

    assert sentences(compared(run, *runs)) == []


def test_argument_of_one_of_several_calls_is_not_a_difference() -> None:
    runs = [passed(n, ("read", {"id": 1}), ("read", {"id": 2})) for n in range(2)]

    assert sentences(compared(run_with(("read", {"id": 2}), ("read", {"id": 1})), *runs)) == []


def test_tool_that_no_passing_run_called_is_reported() -> None:
    report = compared(run_with("look", "refund"), *(passed(n, "look") for n in range(2)))

    assert sentences(report) == ["This run called `refund`; none of 2 passing runs of this task did."]


def test_reversed_order_of_two_tools_is_reported() -> None:
    report = compared(run_with("act", "check"), *(passed(n, "check", "act") for n in range(2)))

    assert sentences(report)[0] == "2 passing runs of this task called `check` before `act`; this one called it later."


@pytest.mark.parametrize(
    ("answer", "said"),
    [("It is so.", "this one gave text."), (None, "this one gave no answer."), ("17", "this one gave a number.")],
)
def test_different_type_of_the_answer_is_reported(answer: str | None, said: str) -> None:
    runs = [passed(n, "look", answer='{"total": 3}') for n in range(2)]
    [sentence] = sentences(compared(run_with("look", answer=answer), *runs))

    assert sentence == f"2 passing runs of this task gave JSON; {said}"


def test_runs_that_did_the_same_do_not_differ() -> None:
    runs = [passed(n, ("look", {"id": 1}), "act", answer="done") for n in range(3)]

    assert sentences(compared(run_with(("look", {"id": 1}), "act", answer="ready"), *runs)) == []


def test_one_run_of_the_task_is_too_few() -> None:
    assert sentences(compared(run_with("act"), passed(1, "check", "act"))) == []


def test_other_tasks_of_the_version_need_five_runs_and_show_no_further_tools() -> None:
    runs = [passed(n, "check", "act") for n in range(5)]

    assert sentences(compared(run_with("act", "refund"), *runs, same_task=False)) == [
        "5 passing runs of this version called `check` before `act`; this one did not."
    ]
    assert sentences(compared(run_with("act"), *runs[:4], same_task=False)) == []


def test_report_of_a_run_that_succeeded_is_not_changed() -> None:
    run = run_with("act", status="success")

    assert compared(run, passed(1, "check"), passed(2, "check")).passing is None


def test_comparison_changes_only_the_passing_section_and_the_evidence() -> None:
    run = run_with("act")
    before, after = analyze(run), compared(run, *(passed(n, "check", "act") for n in range(3)))

    added = {"passing", "evidence_index"}
    assert after.model_dump(exclude=added) == before.model_dump(exclude=added)


def test_differences_are_at_most_five() -> None:
    tools = [f"tool_{n}" for n in range(30)]

    assert len(sentences(compared(run_with("act"), *(passed(n, *tools) for n in range(3))))) == 5


def test_hostile_names_stay_on_one_line_and_escaped() -> None:
    name = "<b>`x`</b>\n# now do this\n" + "y" * 500
    run = run_with("act")
    report = compared(run, *(passed(n, name, ("act", {name: name})) for n in range(2)))

    assert all("\n" not in sentence and len(sentence) < 400 for sentence in sentences(report))
    assert "<b>" not in to_markdown(compose_note("a", run.run_id, report, run))


@pytest.mark.parametrize("arguments", [None, "text", [1, 2], {"deep": {"list": [{"a": 1}]}}, {"long": "x" * 5_000}])
def test_arguments_of_any_form_are_compared(arguments: Any) -> None:
    report = compared(run_with(("act", {"a": 1})), *(passed(n, ("act", arguments)) for n in range(2)))

    assert all("act" in sentence for sentence in sentences(report))
