"""Recovery of a failed call: a later call of the same agent, tool and intent, or an equivalent call of another tool."""

from __future__ import annotations

from typing import Any

import pytest

from support.telemetry.runs import RunBody, step, time_text
from unit.telemetry.outcome.cases import agent, bad, good, model, role, verdict

SUCCEEDED = ("succeeded", "no_unrecovered_error")
FAILED = ("completed_with_errors", "tool_failed")
ORDER = {"order_id": "A-17"}
DONE = "Your order has shipped."


@pytest.mark.parametrize(
    ("failed", "later"),
    [
        (ORDER, ORDER),
        (None, None),
        ({}, ORDER),
        (ORDER, {"order_id": "#a-17"}),
        (ORDER, {"order_id": "ORD-A-17"}),
        (ORDER, {"id": "A-17", "customer": "C-9"}),
        ({"city": "Pari", "units": "metric"}, {"city": "Paris", "units": "metric"}),
        ({"query": "population of the city of Paris 2024"}, {"query": "population city of Paris in 2024"}),
        ({"path": "report.csv", "limit": 10}, {"path": "data/report.csv", "limit": 500}),
        ({"query": "weather Oslo tomorrow"}, {"query": "tomorrow weather Oslo"}),
        (
            {"query": "weather forecast for the city of Oslo in Norway for tomorrow morning"},
            {"query": "Oslo, Norway: forecast of the weather tomorrow in the morning"},
        ),
    ],
)
def test_later_call_with_the_same_intent_recovers(failed: Any, later: Any) -> None:
    assert verdict(bad("c1", 0, args=failed), good("c2", 2, args=later), answer=DONE) == SUCCEEDED


@pytest.mark.parametrize(
    ("failed", "later"),
    [
        (ORDER, {"order_id": "B-99"}),
        ({"order_id": "ORD-1001"}, {"order_id": "ORD-1002"}),
        ({"city": "Paris", "day": "2026-01-02"}, {"city": "Paris", "day": "2026-01-03"}),
        ({"city": "Oslo"}, {"city": "Rome"}),
        ({"order_id": "A-17", "verbose": True}, {"order_id": "B-99", "verbose": True}),
        ({"query": "weather in Oslo today"}, {"query": "price of copper in London"}),
        ({"city": "York"}, {"city": "New York"}),
        (ORDER, {"order_id": "B-99", "quantity": 1}),
    ],
)
def test_later_call_about_something_else_does_not_recover(failed: Any, later: Any) -> None:
    assert verdict(bad("c1", 0, args=failed), good("c2", 2, args=later), answer=DONE) == FAILED


def test_corrected_arguments_recover_a_call_that_the_tool_rejected() -> None:
    error = {"error_message": "payment method not found"}
    cabin = {"reservation": "M20IZO", "cabin": "business", "flight": "HAT268"}
    failed = bad("c1", 0, args={**cabin, "payment_id": "card_7334"}, **error)

    assert verdict(failed, good("c2", 2, args={**cabin, "payment_id": "gift_5512"}), answer=DONE) == SUCCEEDED


def test_call_that_was_rejected_is_replaced_by_another_one_unless_the_answer_reports_a_failure() -> None:
    items = (bad("c1", 0, args=ORDER, error_message="no such order"), good("c2", 2, args={"order_id": "B-99"}))

    assert verdict(*items, answer=DONE) == SUCCEEDED
    assert verdict(*items, answer="B-99 has shipped, but I could not find A-17.") == (
        "completed_with_errors",
        "answer_reports_failure",
    )


@pytest.mark.parametrize(
    ("status_code", "message", "expected"),
    [(code, "it did not work", SUCCEEDED) for code in (400, 404, 409, 410, 422)]
    + [(code, "invalid response of the database", FAILED) for code in (401, 405, 411, 423, 500)],
)
def test_status_code_shows_whether_the_tool_rejected_the_arguments(
    status_code: int, message: str, expected: tuple[str, str]
) -> None:
    failed = bad("c1", 0, args=ORDER, status_code=status_code, error_message=message)

    assert verdict(failed, good("c2", 2, args={"order_id": "B-99"}), answer=DONE) == expected


def test_earlier_success_does_not_recover() -> None:
    assert verdict(good("c1", 0, args=ORDER), bad("c2", 2, args=ORDER), answer=DONE) == FAILED


def test_last_attempt_decides() -> None:
    items = (bad("c1", 0, args=ORDER), good("c2", 2, args=ORDER), bad("c3", 4, args=ORDER))

    assert verdict(*items, answer=DONE) == FAILED


def test_other_tool_with_the_same_request_recovers() -> None:
    items = (bad("c1", 0, "search_web", {"query": "Paris"}), good("c2", 2, "wikipedia", {"title": "Paris"}))

    assert verdict(*items, answer="Paris has 2.1 million inhabitants.") == SUCCEEDED
    assert verdict(*items, answer="I'm sorry, I was unable to search the web.")[1] == "answer_reports_failure"
    assert verdict(*items) == FAILED, "without an answer nothing shows that the result was not needed"


@pytest.mark.parametrize(
    ("failed", "other", "expected"),
    [
        ({"query": "Paris", "region": "Europe"}, {"title": "Paris"}, SUCCEEDED),
        ({"query": "Paris", "region": "Europe", "kind": "news"}, {"title": "Paris"}, FAILED),
        ({"query": "inhabitants of Paris"}, {"title": "Paris inhabitants list"}, SUCCEEDED),
        ({"query": "inhabitants of Paris"}, {"title": "Paris city map"}, FAILED),
    ],
    ids=["half of the values", "a third of the values", "half of the words", "a fifth of the words"],
)
def test_other_tool_recovers_if_it_has_half_of_the_values_or_words(
    failed: dict[str, str], other: dict[str, str], expected: tuple[str, str]
) -> None:
    items = (bad("c1", 0, "search_web", failed), good("c2", 2, "wikipedia", other))

    assert verdict(*items, answer="Paris has 2.1 million inhabitants.") == expected


def test_other_tool_with_another_request_does_not_recover() -> None:
    items = (bad("c1", 0, "weather", {"city": "Paris"}), good("c2", 2, "stock_price", {"symbol": "ACME"}))

    assert verdict(*items, answer="The price is 123 EUR.") == FAILED


def test_sibling_agent_never_recovers_the_failure_of_another_agent() -> None:
    items = (
        agent("a", 0, "a"),
        bad("c1", 1, args=ORDER, step_id="a"),
        agent("b", 2, "b"),
        good("c2", 3, args=ORDER, step_id="b"),
    )
    assert verdict(*items, answer=DONE) == FAILED


def test_agent_recovers_its_own_failure_inside_nested_steps() -> None:
    items = (
        agent("a", 0, "a"),
        model("m1", 1, agent_name=None, parent_step_id="a"),
        bad("c1", 1, args=ORDER, step_id="m1"),
        agent("b", 2, "b"),
        good("c2", 3, args=ORDER, step_id="a"),
    )
    assert verdict(*items, answer=DONE) == SUCCEEDED


def test_repeated_step_that_reports_no_calls_recovers_the_calls_of_the_failed_one() -> None:
    failed = (step("s1", 0, name="look up", status="failure"), bad("c1", 0, args=ORDER, step_id="s1"))
    again = step("s2", 5, name="look up")

    assert verdict(*failed, again) == SUCCEEDED
    assert verdict(*failed, again, good("c2", 5, "greet", {"text": "hi"}, step_id="s2")) == FAILED


def test_cyclic_parents_do_not_loop_forever() -> None:
    items = (
        agent("a", 0, "a", agent_name=None, parent_step_id="b"),
        agent("b", 0, "b", agent_name=None, parent_step_id="a"),
        agent("x", 1, "x"),
        bad("c1", 1, args=ORDER, step_id="a"),
    )
    assert verdict(*items)[1] == "tool_failed"


def test_parallel_call_is_no_new_attempt() -> None:
    assert verdict(bad("c1", 0), good("c2", 0.5), answer=DONE) == FAILED
    assert (
        verdict(
            bad("c1", 0, error_message="no such order", args=ORDER),
            good("c2", 0.5, args={"order_id": "B-99"}),
            answer=DONE,
        )
        == FAILED
    )


def test_call_that_starts_at_the_same_moment_is_no_new_attempt() -> None:
    assert verdict(bad("c1", 0.25), good("c2", 0.25), answer=DONE) == FAILED


def test_parallel_call_with_the_same_arguments_recovers() -> None:
    assert verdict(bad("c1", 0, args=ORDER), good("c2", 0.5, args=ORDER), answer=DONE) == SUCCEEDED


def test_time_that_is_rounded_to_seconds_does_not_make_a_new_attempt_parallel() -> None:
    failed = bad("c1", 0.9, ended_at=None, latency_ms=1_200)

    assert verdict(failed, good("c2", 2), answer=DONE) == SUCCEEDED


def test_attempt_that_reports_an_error_with_the_status_success_does_not_recover() -> None:
    failed = agent("a1", 0, status="failure", error_message="connection refused")
    again = agent("a2", 2, error_message="connection refused")

    assert verdict(failed, again, model("m", 4, DONE)) == ("completed_with_errors", "agent_failed")
    limited = model("m1", 0, status="failure", error_class="RateLimitError")
    assert verdict(limited, model("m2", 2, error_class="RateLimitError")) == ("completed_with_errors", "model_failed")


def test_step_that_succeeded_and_runs_again_without_calls_does_not_recover_its_failed_call() -> None:
    """A graph runs its node `agent` once more after the tool, and the node then only writes the answer."""
    first = (step("s1", 0, name="agent"), bad("c1", 0, args=ORDER, step_id="s1"))

    assert verdict(*first, step("s2", 5, name="agent"), answer=DONE) == FAILED


def test_agent_recovers_its_own_failure_inside_the_nodes_of_a_graph() -> None:
    def node(step_id: str, second: float, parent: str) -> RunBody:
        return role("chain", step_id, second, parent_step_id=parent)

    graph = (agent("a", 0, "a"), node("graph", 0.2, "a"), node("plan", 0.4, "graph"), node("tools", 1, "graph"))
    calls = (bad("c1", 1, args=ORDER, step_id="tools"), good("c2", 3, args=ORDER, step_id="tools"))

    assert verdict(*graph, *calls, answer=DONE) == SUCCEEDED


def test_call_of_a_step_that_did_not_arrive_is_judged_without_an_agent() -> None:
    items = (agent("a", 0, "a"), bad("c1", 1, args=ORDER, step_id="lost"))

    assert verdict(*items, answer=DONE) == FAILED
    assert verdict(*items, good("c2", 3, args=ORDER, step_id="lost"), answer=DONE) == SUCCEEDED
    assert verdict(*items, good("c2", 3, args=ORDER, step_id="a"), answer=DONE) == FAILED


def test_slow_model_call_that_failed_after_another_one_had_answered_is_recovered() -> None:
    slow = model("m1", 0, status="failure", error_message="timed out", ended_at=time_text(30))
    answered = model("m2", 5, DONE, finish_reasons=["stop"])

    assert verdict(slow, answered) == SUCCEEDED
