"""Runs that end with equal tool calls and equal results: the agent was in a loop."""

from __future__ import annotations

import pytest

from support.telemetry.runs import RunBody
from unit.telemetry.outcome.cases import good, model, report_of, verdict


def polls(*results: str) -> list[RunBody]:
    """Return a model call, and calls of one tool with equal arguments and these results."""
    return [model("m0", 0)] + [
        good(f"c{n}", n, args={"id": 1}, result_summary=result) for n, result in enumerate(results)
    ]


def test_equal_calls_with_equal_results_until_the_end_are_a_loop() -> None:
    assert verdict(*polls("wait", "wait", "wait", "wait"), answer="I cannot say.") == (
        "completed_with_errors", "repeated_calls",
    )  # fmt: skip


def test_loop_without_an_answer_failed() -> None:
    report = report_of(*polls("wait", "wait", "wait", "wait"), answer=None)
    assert (report.value.value, report.rule.value) == ("failed", "repeated_calls")


@pytest.mark.parametrize(
    "results",
    [("wait", "wait", "wait"), ("wait", "wait", "wait", "done"), ("done", "wait", "wait", "wait")],
    ids=["few", "waited for something", "another result before"],
)
def test_few_equal_calls_or_another_result_are_not_a_loop(results: tuple[str, ...]) -> None:
    assert verdict(*polls(*results), answer="It is done.")[0] == "succeeded"


def test_equal_calls_without_captured_results_show_no_loop() -> None:
    calls = [good(f"c{n}", n, args={"id": 1}, result_summary=None) for n in range(6)]
    assert verdict(model("m0", 0), *calls, answer="It is done.")[0] == "succeeded"


def test_output_of_a_model_that_called_tools_afterwards_is_no_answer() -> None:
    request = model("m1", 0, 'lookup({"id": 1})')
    report = report_of(request, *[good(f"c{n}", 2 + n, args={"id": 1}, result_summary="wait") for n in range(4)])
    assert report.value.value == "failed"


def test_equal_calls_of_a_program_without_a_model_are_no_loop() -> None:
    assert verdict(*polls("wait", "wait", "wait", "wait")[1:])[0] == "succeeded"


def test_equal_hand_overs_are_no_loop() -> None:
    transfers = [
        good(f"c{n}", n, "transfer_to_billing", args={}, relation="handed_over", to_agent="billing") for n in range(4)
    ]

    assert verdict(model("m0", 0), *transfers, answer="Refunded.")[0] == "succeeded"
