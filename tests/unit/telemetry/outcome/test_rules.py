"""The rules of the outcome: the runs that each rule matches, and similar runs that it does not match."""

from __future__ import annotations

from typing import Any

import pytest

from support.telemetry.runs import RunBody, step, time_text
from unit.telemetry.outcome.cases import agent, bad, good, model, report_of, role, verdict

SUCCEEDED = ("succeeded", "no_unrecovered_error")
ORDER = {"order_id": "A-17"}


@pytest.mark.parametrize(
    ("status", "expected"),
    [
        ("running", ("unknown", "not_finished")),
        ("cancelled", ("unknown", "cancelled")),
        ("failure", ("failed", "reported_failure")),
        ("success", SUCCEEDED),
    ],
)
def test_reported_status_decides_first_except_success(status: str, expected: tuple[str, str]) -> None:
    assert verdict(status=status) == expected


@pytest.mark.parametrize(
    ("items", "expected"),
    [
        ((), ("unknown", "incomplete")),
        ((good("c1", 0), model("m", 1, "Here you are.")), ("unknown", "incomplete")),
        # A missing answer after a tool call proves nothing, because only its span may be missing.
        ((model("m", 0, finish_reasons=["tool_calls"]), good("c1", 1)), ("unknown", "incomplete")),
        ((model("m", 0, "Half an ans", finish_reasons=["length"]),), ("unknown", "incomplete")),
        ((bad("c1", 0, args=ORDER), good("c2", 2, args=ORDER)), ("unknown", "incomplete")),
        ((bad("c1", 0, args=ORDER),), ("failed", "tool_failed")),
        (
            (bad("c1", 0, args=ORDER), model("m", 2, "I could not look it up.")),
            ("completed_with_errors", "answer_reports_failure"),
        ),
        ((model("m", 0, status="failure", error_message="429"),), ("failed", "model_failed")),
        ((agent("a", 0, status="failure", error_message="Max turns (5) exceeded"),), ("failed", "step_limit")),
    ],
)
def test_errors_that_arrived_decide_an_incomplete_run_and_missing_steps_do_not(
    items: tuple[RunBody, ...], expected: tuple[str, str]
) -> None:
    assert verdict(*items, status="incomplete") == expected


def test_incomplete_run_quotes_the_errors_that_it_recovered_from() -> None:
    report = report_of(bad("c1", 0, args=ORDER), good("c2", 2, args=ORDER), status="incomplete")

    assert [(quote.ref_id, quote.text) for quote in report.evidence] == [("c1", "timed out after 5 s")]


def test_reported_failure_quotes_the_error_of_the_run() -> None:
    [quote] = report_of(status="failure", error_type="ToolError", error_message="order_lookup broke").evidence

    assert quote.kind == "run"
    assert quote.ref_id == "run-1"
    assert quote.field == "error_message"
    assert quote.text == "order_lookup broke"


def test_agent_error_that_nothing_follows_is_a_failure_below_a_root_that_reports_success() -> None:
    report = report_of(model("m", 0, "hm"), agent("a", 1, status="failure", error_message="boom"))

    assert report.value == "failed"
    assert report.rule == "agent_failed"
    [quote] = report.evidence
    assert (quote.kind, quote.ref_id, quote.field, quote.text) == ("step", "a", "error_message", "boom")


def test_agent_error_that_the_run_outlived_is_unrecovered() -> None:
    items = (
        agent("a", 0, status="failure", error_message="boom"),
        # It begins at the instant at which the failed agent ends.
        agent("b", 1, "writer"),
        model("m", 1, "Here you are."),
    )

    assert verdict(*items) == ("completed_with_errors", "agent_failed")


def test_agent_that_is_called_again_with_success_is_recovered() -> None:
    assert verdict(agent("a", 0, status="failure"), agent("b", 2), model("m", 3, "Here you are.")) == SUCCEEDED


@pytest.mark.parametrize(
    "text",
    [
        "Max turns (10) exceeded",
        "Recursion limit of 25 reached without hitting a stop condition.",
        "Reached max steps.",
        "Max iterations of 20 reached! Either something went wrong or you can increase the max iterations",
        "The next request would exceed the request_limit of 50 (UsageLimitExceeded)",
        "Agent stopped due to iteration limit or time limit.",
        "Agent stopped due to max iterations.",
        "Max number of llm calls limit of `5` exceeded",
    ],
)
def test_step_limit_without_an_answer_is_a_failure(text: str) -> None:
    assert verdict(step("s", 1, status="failure", error_message=text)) == ("failed", "step_limit")
    assert verdict(model("m", 0, "let me see"), step("s", 1, status="failure", error_message=text))[1] == "step_limit"
    assert verdict(answer=text) == ("failed", "step_limit")


@pytest.mark.parametrize("reason", ["max_turns", "max_iterations"])
def test_finish_reason_or_error_of_the_run_that_names_a_step_limit_is_no_success(reason: str) -> None:
    last = model("m", 0, "let me see", finish_reasons=[reason])

    assert verdict(last) == ("completed_with_errors", "step_limit")
    assert verdict(model("m", 0), error_type="MaxTurnsExceeded") == ("failed", "step_limit")
    assert verdict(error_message="Reached max steps.", answer="It weighs 12 kg.")[1] == "step_limit"


def test_step_limit_with_an_answer_is_an_unrecovered_error() -> None:
    items = (step("s", 1, status="failure", error_class="AgentMaxStepsError", error_message="Reached max steps."),)

    assert verdict(*items, model("m", 2, "It weighs 12 kg."), answer="It weighs 12 kg.") == (
        "completed_with_errors",
        "step_limit",
    )


def test_answer_about_a_step_limit_is_no_step_limit() -> None:
    answer = "To avoid this error in your program, raise the recursion limit: " + "explanation " * 60

    assert verdict(model("m", 0, answer)) == SUCCEEDED
    assert verdict(model("m", 0, "Set the max number of LLM calls in the configuration.")) == SUCCEEDED


def test_model_error_at_the_end_is_a_failure() -> None:
    report = report_of(model("m1", 0, "hm"), model("m2", 2, status="failure", error_class="RateLimitError"))

    assert report.value == "failed"
    assert report.rule == "model_failed"
    assert report.evidence[0].text == "RateLimitError"


def test_model_error_that_a_later_model_call_follows_is_recovered() -> None:
    items = (model("m1", 0, status="failure"), model("m2", 2, "It has shipped.", name="chat another-model"))

    assert verdict(*items) == SUCCEEDED


def test_model_error_of_one_agent_is_not_recovered_by_another_agent() -> None:
    items = (
        agent("a", 0, "a", ended_at=time_text(5)),
        model("m1", 1, status="failure", agent_name="a", parent_step_id="a"),
        agent("b", 2, "b"),
        model("m2", 3, "All done.", agent_name="b"),
    )
    assert verdict(*items) == ("completed_with_errors", "model_failed")


def test_failed_call_without_another_attempt_is_unrecovered() -> None:
    report = report_of(bad("c", 0, args=ORDER), answer="Your order A-17 will arrive soon.")

    assert report.value == "completed_with_errors"
    assert report.rule == "tool_failed"
    assert report.evidence[0].kind == "tool_call"
    assert report.evidence[0].ref_id == "c"
    assert report.evidence[0].text == "timed out after 5 s"


@pytest.mark.parametrize(
    "result",
    ["Error: connection refused", '{"error": "timeout"}', "Traceback (most recent call last)\n ..."],
)
def test_error_as_the_result_of_a_successful_call_counts(result: str) -> None:
    assert verdict(good("c", 0, args=ORDER, result_summary=result))[1] == "tool_failed"


def test_answer_that_reports_the_failure_of_a_call_is_quoted() -> None:
    answer = "I'm sorry, I could not retrieve your order at the moment. Please try again later."
    report = report_of(bad("c", 0, args=ORDER), answer=answer)

    assert report.value == "completed_with_errors"
    assert report.rule == "answer_reports_failure"
    assert [quote.field for quote in report.evidence] == ["answer", "error_message"]


@pytest.mark.parametrize(
    "answer",
    [
        "Es tut mir leid, ich konnte die Bestellung leider nicht abrufen.",
        "Je suis désolé, je n'ai pas pu récupérer la commande.",
        "Lo siento, no pude consultar el pedido.",
        "抱歉, 我无法获取您的订单。",
        "The weather could not be retrieved because the service is unavailable.",
        "I was unable to check the weather.",
        "I couldn\N{RIGHT SINGLE QUOTATION MARK}t check the weather.",
        "There was an internal error with the tool, so nothing was booked.",
    ],
)
def test_answers_that_report_a_failure_in_several_languages(answer: str) -> None:
    assert verdict(bad("c", 0, args=ORDER), answer=answer) == ("completed_with_errors", "answer_reports_failure")


@pytest.mark.parametrize(
    "answer",
    [
        "I'm sorry, I could not find any flight that is cheaper.",
        "The error 502 means that the upstream server could not be reached. Restart it, please.",
        "I'm sorry to hear that your payment failed. I have refunded it.",
    ],
)
def test_answer_that_mentions_errors_without_a_failed_call_is_a_success(answer: str) -> None:
    assert verdict(good("c", 0, args=ORDER), answer=answer) == SUCCEEDED


def test_failed_step_after_which_its_agent_went_on_is_no_failure() -> None:
    assert verdict(role("chain", "s1", 0, name="a", status="failure"), role("chain", "s2", 1, name="b")) == SUCCEEDED


def test_failed_step_at_the_end_is_unrecovered() -> None:
    items = (role("chain", "s1", 0, name="a"), role("chain", "s2", 1, name="b", status="failure"))

    assert verdict(*items) == ("completed_with_errors", "step_failed")


def test_reported_success_overrides_a_failed_step_without_a_span() -> None:
    assert verdict(step("s1", 0), step("s2", 1, status="failure")) == SUCCEEDED


def test_output_of_a_model_that_begins_with_error_is_content() -> None:
    assert verdict(model("m", 0, "Error: 502 is what your users saw. The cause was a restart.")) == SUCCEEDED


def test_blank_answer_is_empty_and_a_missing_answer_is_not_known() -> None:
    assert verdict(model("m", 0), answer=" \n") == ("completed_with_errors", "answer_empty")
    assert verdict(model("m", 0), answer=None) == SUCCEEDED


@pytest.mark.parametrize(
    ("reason", "rule"),
    [("content_filter", "answer_filtered"), ("SAFETY", "answer_filtered"), ("length", "answer_cut_off")],
)
def test_last_answer_that_was_filtered_or_cut_off_is_an_error(reason: str, rule: str) -> None:
    last = model("m2", 2, "Once upon a", finish_reasons=[reason])

    assert verdict(model("m1", 0), last) == ("completed_with_errors", rule)
    assert verdict(last, model("m3", 4, "The end.", finish_reasons=["stop"])) == SUCCEEDED


def test_plumbing_spans_without_errors_do_not_matter() -> None:
    assert verdict(role("chain", "s", 0, name="RunnableSequence"), model("m", 1, "Hello!")) == SUCCEEDED


def asking(step_id: str, second: float, **fields: Any) -> RunBody:
    return model(step_id, second, "order_lookup({})", finish_reasons=["tool_calls"], **fields)


def test_run_that_was_stopped_after_a_tool_call_without_an_answer_failed() -> None:
    assert verdict(asking("m1", 0), good("c1", 1), asking("m2", 2), good("c2", 3)) == ("failed", "no_answer")


def test_run_that_was_stopped_after_a_failed_call_without_a_result_failed() -> None:
    assert verdict(asking("m1", 0), bad("c1", 1, args=ORDER)) == ("failed", "no_answer")


def test_run_whose_last_tool_call_brought_nothing_may_have_been_cancelled_or_paused() -> None:
    """OpenAI's Agents SDK reports success for a cancelled call, and for one that waits for a person."""
    open_call = good("c2", 3, args=ORDER, result_summary=None)

    assert verdict(asking("m1", 0), good("c1", 1), asking("m2", 2), open_call) == ("unknown", "no_answer")
    assert verdict(asking("m1", 0), good("c1", 1), asking("m2", 2), open_call, answer="Shipped.") == SUCCEEDED


def test_request_of_a_model_call_outside_of_an_agent_decides_nothing_if_only_its_input_has_executed_calls() -> None:
    """A client without a span around its loop sends each model call as a trace with all calls before it."""
    requested = good("c2", 2, status="skipped", result_summary=None)

    assert verdict(good("c1", 0), asking("m1", 0, latency_ms=2_000), requested) == SUCCEEDED


def test_run_that_langgraph_interrupted_to_ask_a_person_has_an_unknown_outcome() -> None:
    paused = role("chain", "s", 2, name="HumanInTheLoopMiddleware.after_model", finish_reasons=["interrupt"])

    assert verdict(asking("m1", 0), good("c1", 1, status="skipped"), paused) == ("unknown", "no_answer")
    assert verdict(asking("m1", 0), paused, model("m2", 4, "Refunded.", finish_reasons=["stop"])) == SUCCEEDED


def cancelled(call_id: str, second: float) -> RunBody:
    error = {"status": "cancelled", "error_class": "CancelledError", "result_summary": None}
    return good(call_id, second, args=ORDER, **error)


def test_run_that_ended_in_a_cancelled_call_is_cancelled_even_if_it_reports_success() -> None:
    report = report_of(asking("m1", 0), cancelled("c1", 1))

    assert (report.value, report.rule) == ("unknown", "cancelled")
    assert [(quote.ref_id, quote.text) for quote in report.evidence] == [("c1", "CancelledError")]


@pytest.mark.parametrize(
    "item", [model("m1", 0, status="cancelled"), good("c1", 1, status="cancelled", result_summary=None)]
)
def test_run_that_ended_in_a_cancelled_step_or_call_without_an_error_text_is_cancelled(item: RunBody) -> None:
    report = report_of(item)

    assert (report.value, report.rule) == ("unknown", "cancelled")
    assert [(quote.field, quote.text) for quote in report.evidence] == [("status", "cancelled")]
    assert verdict(item, answer="It was shipped.") == SUCCEEDED


def test_cancelled_call_after_which_the_agent_went_on_is_an_error() -> None:
    items = (asking("m1", 0), cancelled("c1", 1), model("m2", 3, "The lookup was too slow.", finish_reasons=["stop"]))

    assert verdict(*items, answer="The lookup was too slow.") == ("completed_with_errors", "tool_failed")
    assert verdict(*items) == ("completed_with_errors", "tool_failed")


def test_run_that_ended_in_a_failed_step_around_its_last_model_call_failed() -> None:
    """A guardrail of OpenAI's Agents SDK fails the turn whose answer it rejects; the agent's span reports success."""
    turn = role("chain", "t", 0, name="turn", agent_name="desk", status="failure", error_message="Invalid JSON")
    said = model("m", 0, '{"days": "soon"}', parent_step_id="t", agent_name="desk")

    assert verdict(turn, said) == ("failed", "step_failed")
    assert verdict(turn, said, answer="In three days.") == ("completed_with_errors", "step_failed")
    assert verdict(turn, said, model("m2", 2, "Soon.", agent_name="desk")) == SUCCEEDED


def test_agent_whose_only_step_failed_before_it_called_a_model_failed() -> None:
    turn = role("chain", "t", 0, name="turn", parent_step_id="a", status="failure", error_message="tripwire")

    assert verdict(agent("a", 0), turn) == ("failed", "step_failed")


def test_run_that_paused_before_its_tool_call_is_not_stopped() -> None:
    assert verdict(asking("m1", 0), good("c1", 1, status="skipped"))[1] != "no_answer"


def test_run_with_an_answer_after_its_tool_call_is_not_stopped() -> None:
    assert (
        verdict(asking("m1", 0), good("c1", 1), model("m2", 2, "It was shipped.", finish_reasons=["stop"]))[0]
        == "succeeded"
    )
    assert verdict(asking("m1", 0), good("c1", 1), answer="It was shipped.")[0] == "succeeded"


def test_apology_after_a_request_that_was_not_carried_out_is_no_success() -> None:
    rejected = model("m1", 0, finish_reasons=["TOOL_CALLS"])
    last = model("m2", 2, "I was unable to look it up.", finish_reasons=["STOP"])

    report = report_of(rejected, last, answer="I was unable to look it up.")

    assert (report.value.value, report.rule.value) == ("completed_with_errors", "answer_reports_failure")
    assert [quote.ref_id for quote in report.evidence] == ["run-1", "m1"]
    assert verdict(rejected, good("c", 1), last, answer="I was unable to look it up.")[0] == "succeeded"
    assert verdict(rejected, last, answer="It was shipped.")[0] == "succeeded"


def test_apology_in_a_conversation_without_any_request_is_no_error() -> None:
    greeting = model("m1", 0, "Hello!", finish_reasons=["stop"])

    assert verdict(greeting, model("m2", 2, "I was unable to find your order.", finish_reasons=["stop"])) == SUCCEEDED


def test_agent_of_a_call_that_is_not_a_text_is_not_known() -> None:
    assert verdict(good("c1", 0, agent_name=["north"])) == SUCCEEDED


def test_failed_step_of_unknown_length_that_nothing_follows_is_a_failure() -> None:
    failed = agent("a", 1, status="failure", error_message="boom", ended_at=None)

    assert verdict(model("m", 0, "hm"), failed) == ("failed", "agent_failed")


def test_step_that_began_at_the_same_time_as_a_failed_step_but_before_it_is_no_recovery() -> None:
    failed = role("chain", "s2", 0, name="check", status="failure", ended_at=None)

    assert verdict(role("chain", "s1", 0, name="turn"), failed) == ("completed_with_errors", "step_failed")
    assert verdict(failed, role("chain", "s1", 0, name="turn")) == SUCCEEDED


def test_error_of_a_call_is_quoted_by_its_status_code_if_it_has_no_text() -> None:
    for call in (good, bad):
        [quote] = report_of(call("c", 0, status_code=503, result_summary=None, error_message=None)).evidence

        assert (quote.kind, quote.field, quote.text) == ("tool_call", "status_code", "503")
