"""Cluster keys: failures with the same cause have the same key, and other failures have different keys."""

from __future__ import annotations

from typing import Any

import pytest

from relab.rca.analyzer import analyze
from relab.rca.clusters import FailureKey, key_of
from support.telemetry.runs import step
from unit.rca.builders import agent_run, call, failed


def key(agent: str = "shop-agent", **fields: Any) -> FailureKey:
    return key_of(analyze(agent_run(agent_name=agent, tool_calls=[failed(**fields)])), agent)


def said(message: str, **fields: Any) -> FailureKey:
    return key(tool_name="lookup", error_message=message, **fields)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("Missing required field: customer_id (request 8812)", "Missing required field: customer_id (request 17)"),
        ("customer 'ACME-12 Ltd' is not valid JSON at line 3", "customer 'Smith & Co' is not valid JSON at line 912"),
        ("Traceback (most recent call last):\n  File x\nKeyError: 'id'", "Traceback (most recent call last):\nKeyError: 'id'"),
        ("database vector41 lost node 0f3a9c1d2e4b5a6f", "database vector41 lost node 1a2b3c4d5e6f7a8b"),
    ],
)  # fmt: skip
def test_values_that_vary_between_runs_do_not_change_the_key(one: str, other: str) -> None:
    assert said(one).key == said(other).key


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("Missing required field: customer_id", "Missing required field: order_id"),
        ("Missing required field: 'customer_id'", "Missing required field: 'order_id'"),
        ("disk is on fire", "disk is under water"),
    ],
)
def test_different_causes_have_different_keys(one: str, other: str) -> None:
    assert said(one).key != said(other).key


def test_timeouts_of_one_tool_share_a_key_for_any_request() -> None:
    first = said("GET /orders/a?x=1 timed out after 5 s", error_class="TimeoutError")
    second = said("search for 'shoes' timed out after 30 s", error_class="TimeoutError")

    assert first.key == second.key


def test_key_depends_on_the_tool_and_not_on_the_agent() -> None:
    message = {"error_message": "Too many requests", "status_code": 429}
    assert key(tool_name="a", **message).key != key(tool_name="b", **message).key
    assert key("one", tool_name="a", **message).key == key("two", tool_name="a", **message).key


def test_runs_of_one_agent_without_a_visible_error_share_the_reason() -> None:
    def guess(agents: str, agent: str = "team") -> FailureKey:
        steps = [step(f"s{n}", agent_name=name, output_summary=f"said {n}") for n, name in enumerate(agents)]
        return key_of(analyze(agent_run(agent_name=agent, steps=steps)), agent)

    assert guess("abc").key == guess("abcc").key
    assert guess("abc").key != guess("acb").key
    assert guess("abc").key != guess("abc", agent="other").key


def test_line_shows_the_cause_without_secrets() -> None:
    found = said("request with token=abcdefgh12345678 was not understood")

    assert "[masked]" in found.line
    assert "abcdefgh" not in found.line


@pytest.mark.parametrize("changed", [True, False])
def test_guessed_step_does_not_change_the_key_of_a_cause(changed: bool) -> None:
    steps = [step(f"s{n}", n, agent_name="clerk", output_summary=f"text {n}") for n in range(4)]
    error = failed("f", 0, step_id="s0", tool_name="seats", error_message="not enough")
    later = call("c", 2, step_id="s2", tool_name="pay" if changed else "read", result_summary="done")
    report = analyze(agent_run(steps=steps, tool_calls=[error, later]))
    assert report.attribution is not None
    assert (report.attribution.step_id == "s2") is changed
    assert key_of(report, "shop-agent").key == key(step_id="s1", tool_name="seats", error_message="not enough").key


def test_line_of_a_guessed_change_has_one_line() -> None:
    steps = [step(f"s{n}", n, agent_name="clerk", output_summary=f"text {n}") for n in range(4)]
    report = analyze(agent_run(steps=steps, tool_calls=[call("c", 2, step_id="s2", tool_name="cancel\n\x1b[31morder")]))
    line = key_of(report, "shop-agent").line
    assert "changed something" in line
    assert line.isprintable()
