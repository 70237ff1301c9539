"""Runs of an agent that waits for a person, or that was cancelled before its model answered."""

from __future__ import annotations

from support.telemetry.runs import RunBody
from unit.telemetry.outcome.cases import agent, good, model, role, verdict

SUCCEEDED = ("succeeded", "no_unrecovered_error")
ASKING = model("m1", 0, "order_lookup({})", finish_reasons=["tool_calls"])
OF_AN_AGENT: RunBody = {"span_kind": "agent"}


def test_agent_that_called_none_of_the_requested_tools_was_cancelled_or_waits() -> None:
    waiting = (ASKING, good("c1", 1, status="skipped", result_summary=None))

    assert verdict(*waiting, **OF_AN_AGENT) == ("unknown", "no_answer")
    assert verdict(agent("a", 0), *waiting) == ("unknown", "no_answer")
    assert verdict(*waiting, **OF_AN_AGENT, answer="Shipped.") == SUCCEEDED


def test_agent_that_asked_for_a_tool_and_reports_nothing_after_it_was_stopped() -> None:
    """Claude Code exports no span of the tool call during which its process is interrupted."""
    asking = model("m1", 0, finish_reasons=["tool_use"])

    assert verdict(asking, **OF_AN_AGENT, question="Where is it?") == ("unknown", "no_answer")
    assert verdict(asking, **OF_AN_AGENT) == SUCCEEDED  # texts may not be captured: a structured answer looks the same
    assert verdict(asking, question="Where is it?") == SUCCEEDED
    assert verdict(asking, role("chain", "s", 2), **OF_AN_AGENT, question="Where is it?") == SUCCEEDED


def test_model_call_that_ended_by_an_error_that_no_span_reports_leaves_the_outcome_unknown() -> None:
    ended = model("m1", 0, finish_reasons=["error"])

    assert verdict(ended, **OF_AN_AGENT) == ("unknown", "no_answer")
    assert verdict(ended, **OF_AN_AGENT, answer="Shipped.") == SUCCEEDED
    assert verdict(ended, model("m2", 2, "Shipped.", finish_reasons=["stop"]), **OF_AN_AGENT) == SUCCEEDED
    assert verdict(model("m1", 0, "Shipped", finish_reasons=["error"]), **OF_AN_AGENT) == SUCCEEDED


def test_agent_whose_only_model_call_brought_nothing_has_an_unknown_outcome() -> None:
    silent = model("m1", 0)
    cost = {"tokens_prompt": 12, "tokens_completion": 0}

    assert verdict(silent, **OF_AN_AGENT, question="Where is it?") == ("unknown", "no_answer")
    assert verdict(silent, **OF_AN_AGENT, question="Where is it?", model="gpt-x") == ("unknown", "no_answer")
    assert verdict(agent("a", 0), silent, question="Where is it?") == ("unknown", "no_answer")
    assert verdict(silent, **OF_AN_AGENT, question="Where is it?", cost=cost) == SUCCEEDED
    assert verdict(silent, **OF_AN_AGENT, model="gpt-x") == SUCCEEDED
    assert verdict(silent, **OF_AN_AGENT, model="gpt-x", has_messages=False) == ("unknown", "no_answer")
    assert verdict(silent, question="Where is it?") == SUCCEEDED
