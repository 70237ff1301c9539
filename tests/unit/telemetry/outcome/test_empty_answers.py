"""Model calls that ended with an empty answer or without one, and those whose answer was only not captured."""

from __future__ import annotations

import pytest

from support.telemetry.runs import RunBody
from unit.telemetry.outcome.cases import agent, good, model, role, verdict

SUCCEEDED = ("succeeded", "no_unrecovered_error")


def asking(step_id: str, second: float) -> RunBody:
    """Return the step of a model call that requests a tool."""
    return model(step_id, second, "order_lookup({})", finish_reasons=["tool_calls"])


SILENT = model("m2", 2, "", finish_reasons=["stop"])


@pytest.mark.parametrize(
    "items",
    [
        (model("m1", 0, "", finish_reasons=["stop"]),),
        (model("m1", 0, ""),),
        (asking("m1", 0), good("c1", 1), model("m2", 2, finish_reasons=["end_turn"])),
        (agent("a", 0, "shop-agent"), asking("m1", 0), good("c1", 1), model("m2", 2, finish_reasons=["stop"])),
    ],
    ids=["reported as empty", "without a finish reason", "after a captured request", "inside an agent"],
)
def test_run_whose_model_gave_an_empty_answer_completed_with_errors(items: tuple[RunBody, ...]) -> None:
    assert verdict(*items, question="Where is A-17?") == ("completed_with_errors", "answer_empty")


@pytest.mark.parametrize(
    "items",
    [
        (model("m1", 0, finish_reasons=["stop"]),),
        (model("m1", 0), good("c1", 1), model("m2", 2, finish_reasons=["stop"])),
        (asking("m1", 0), good("c1", 1), model("m2", 2, finish_reasons=["unknown"])),
        (model("m1", 0, "order_lookup()"), good("c1", 1), model("m2", 2, finish_reasons=["stop"])),
    ],
    ids=["one call", "earlier output is not captured", "another finish reason", "arguments are not captured"],
)
def test_model_output_that_was_only_not_captured_is_no_empty_answer(items: tuple[RunBody, ...]) -> None:
    assert verdict(*items, question="Where is A-17?") == SUCCEEDED


@pytest.mark.parametrize(
    "items",
    [
        (asking("m1", 0), SILENT, good("c2", 3)),
        (asking("m1", 0), good("c1", 1), SILENT, role("handoff", "h2", 3, name="handoff")),
        (asking("m1", 0), good("c1", 1), SILENT, role("chain", "n2", 3, name="publish", output_summary="/out/r.md")),
        (model("m1", 0, "Shipped."), SILENT),
    ],
    ids=["a tool", "a hand-over", "a later node", "a text before it"],
)
def test_empty_text_of_a_model_that_may_not_be_the_answer_is_no_empty_answer(items: tuple[RunBody, ...]) -> None:
    assert verdict(*items, question="Where is A-17?") == SUCCEEDED


def test_agent_that_says_nothing_beside_the_answer_of_another_one_is_no_error_of_the_run() -> None:
    notes = (agent("a2", 3, "notes"), model("m2", 3, "", finish_reasons=["stop"], agent_name="notes"))
    said = (agent("a1", 0, "shop"), model("m1", 0, "Shipped.", agent_name="shop"))

    assert verdict(*said, *notes, question="Where is A-17?", answer="Shipped.") == SUCCEEDED
    shop = {"name": "shop", "answer": "Shipped."}
    listed = {"question": "Where is A-17?", "answer": "Shipped."}
    assert verdict(*said, *notes, **listed, agents=[shop, {"name": "notes"}]) == SUCCEEDED
    assert verdict(*said, *notes, **listed, agents=[shop, {"name": "notes", "answer": " "}])[1] == "answer_empty"
    assert verdict(*notes, question="Where is A-17?") == ("completed_with_errors", "answer_empty")


def test_step_without_output_after_an_empty_answer_is_no_other_work() -> None:
    items = (asking("m1", 0), good("c1", 1), SILENT, role("chain", "n2", 3, name="after_model"))

    assert verdict(*items, question="Where is A-17?") == ("completed_with_errors", "answer_empty")


def test_run_with_an_answer_does_not_depend_on_the_text_of_its_last_model_call() -> None:
    assert verdict(model("m1", 0, "", finish_reasons=["stop"]), answer="Shipped.") == SUCCEEDED


def test_last_model_call_without_tokens_after_calls_with_tokens_did_not_complete() -> None:
    counted, question = {"tokens_completion": 18}, "Where is it?"
    first, second = model("m1", 0, **counted), model("m2", 2)
    assert verdict(first, second, question=question) == ("unknown", "no_answer")
    assert verdict(first, second) == SUCCEEDED
    assert verdict(first, model("m2", 2, **counted), question=question) == SUCCEEDED
    assert verdict(model("m0", 0), model("m1", 1, **counted), second, question=question) == SUCCEEDED
    assert verdict(first, second, good("c1", 4), question=question) == SUCCEEDED


def test_run_whose_last_model_call_brought_nothing_has_an_unknown_outcome() -> None:
    assert verdict(asking("m1", 0), good("c1", 1), model("m2", 2)) == ("unknown", "no_answer")
    assert verdict(asking("m1", 0), good("c1", 1), model("m2", 2), answer="It was shipped.") == SUCCEEDED


@pytest.mark.parametrize(
    "items",
    [
        (model("m1", 0),),
        (model("m1", 0), good("c1", 1), model("m2", 2)),
        (asking("m1", 0), good("c1", 1), model("m2", 2, finish_reasons=["stop"])),
        (model("m1", 0, "order_lookup({})"), good("c1", 1), model("m2", 2)),
        (model("m1", 0, finish_reasons=["tool_calls"]), good("c1", 1), model("m2", 2)),
    ],
    ids=["no content", "no content in any call", "a finish reason", "no finish reasons in any call", "no outputs"],
)
def test_model_calls_without_captured_content_show_no_missing_answer(items: tuple[RunBody, ...]) -> None:
    assert verdict(*items) == SUCCEEDED
