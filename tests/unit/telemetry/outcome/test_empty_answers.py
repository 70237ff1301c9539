"""Model calls that ended with an empty answer, and those whose answer was only not captured."""

from __future__ import annotations

import pytest

from support.telemetry.runs import RunBody
from unit.telemetry.outcome.cases import good, model, verdict

SUCCEEDED = ("succeeded", "no_unrecovered_error")


def asking(step_id: str, second: float) -> RunBody:
    """Return the step of a model call that requests a tool."""
    return model(step_id, second, "order_lookup({})", finish_reasons=["tool_calls"])


@pytest.mark.parametrize(
    "items",
    [
        (model("m1", 0, "", finish_reasons=["stop"]),),
        (model("m1", 0, ""),),
        (asking("m1", 0), good("c1", 1), model("m2", 2, finish_reasons=["end_turn"])),
    ],
    ids=["reported as empty", "without a finish reason", "after a captured request"],
)
def test_run_whose_model_gave_an_empty_answer_completed_with_errors(items: tuple[RunBody, ...]) -> None:
    assert verdict(*items, question="Where is A-17?") == ("completed_with_errors", "answer_empty")


@pytest.mark.parametrize(
    "items",
    [
        (model("m1", 0, finish_reasons=["stop"]),),
        (model("m1", 0), good("c1", 1), model("m2", 2, finish_reasons=["stop"])),
        (asking("m1", 0), model("m2", 2, finish_reasons=["unknown"])),
        (asking("m1", 0), model("m2", 2, "", finish_reasons=["stop"]), good("c2", 3)),
    ],
    ids=["one call", "earlier output is not captured", "another finish reason", "a call after it"],
)
def test_model_output_that_was_only_not_captured_is_no_empty_answer(items: tuple[RunBody, ...]) -> None:
    assert verdict(*items, question="Where is A-17?") == SUCCEEDED


def test_run_with_an_answer_does_not_depend_on_the_text_of_its_last_model_call() -> None:
    assert verdict(model("m1", 0, "", finish_reasons=["stop"]), answer="Shipped.") == SUCCEEDED
