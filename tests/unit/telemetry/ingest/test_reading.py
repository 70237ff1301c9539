"""Reading of a posted body: a valid body becomes a run, and an invalid one a list of problems."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given

from relab.core.errors import InvalidInputError, MalformedBodyError
from relab.telemetry.errors import InvalidAgentRunError
from relab.telemetry.ingest.reading import MAX_PROBLEMS, check_agent_run, read_agent_run
from relab.telemetry.models import MAX_ITEMS
from support.telemetry.runs import (
    RunBody,
    agent_runs,
    content_digest,
    examples,
    failed_run,
    guardrail_event,
    minimal_run,
    step,
    time_text,
    tool_call,
)


def encode(body: Any) -> bytes:
    return json.dumps(body).encode()


def problems(body: Any) -> dict[str, str]:
    with pytest.raises(InvalidAgentRunError) as caught:
        read_agent_run(encode(body))
    return dict(caught.value.problems)


def test_unknown_fields_of_a_run_are_kept_on_every_level() -> None:
    body = failed_run(team="billing", cost={"total_cost_usd": 1, "cache_hits": 3})
    body["steps"][0]["span_id"] = "abc"
    body["tool_calls"][0]["region"] = {"name": "eu"}
    body["guardrail_events"][0]["score"] = 0.25

    dumped = read_agent_run(encode(body)).model_dump(mode="json", exclude_unset=True)

    assert dumped == body


@given(agent_runs())
@examples(30)
def test_every_valid_run_is_read_unchanged(body: RunBody) -> None:
    assert read_agent_run(encode(body)).model_dump(mode="json", exclude_unset=True) == body


@given(agent_runs())
@examples(30)
def test_the_digest_depends_on_content_and_not_on_the_order_of_keys(body: RunBody) -> None:
    reordered = dict(reversed(body.items()))
    run = check_agent_run(body)

    assert content_digest(check_agent_run(reordered)) == content_digest(run)
    assert content_digest(check_agent_run({**body, "task_id": "another"})) != content_digest(run)


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"run_id": ""}, "run_id"),
        ({"run_id": "a/b"}, "run_id"),
        ({"run_id": ".."}, "run_id"),
        ({"run_id": "."}, "run_id"),
        ({"run_id": "a\x1fb"}, "run_id"),
        ({"run_id": "a\x9bb"}, "run_id"),
        ({"run_id": "x" * 201}, "run_id"),
        ({"run_id": "rca-runs"}, "run_id"),
        ({"run_id": 7}, "run_id"),
        ({"agent_name": ""}, "agent_name"),
        ({"agent_name": "x" * 501}, "agent_name"),
        ({"agent_name": None}, "agent_name"),
        ({"status": "exploded"}, "status"),
        ({"status": 1}, "status"),
        ({"started_at": 1_705_314_600}, "started_at"),
        ({"started_at": "yesterday"}, "started_at"),
        ({"started_at": "0001-01-01T00:00:00Z"}, "started_at"),
        ({"started_at": "0001-01-01T00:00:00+14:00"}, "started_at"),
        ({"started_at": "1969-12-31T23:59:59Z"}, "started_at"),
        ({"started_at": "2200-01-01T00:00:00Z"}, "started_at"),
        ({"started_at": "3000-01-01T00:00:00Z"}, "started_at"),
        ({"started_at": "9999-12-31T23:59:59-23:59"}, "started_at"),
        ({"ended_at": time_text(-1)}, "body"),
        ({"steps": {}}, "steps"),
        ({"steps": [step("s1"), 7]}, "steps.1"),
        ({"steps": [step("s1", latency_ms=-1)]}, "steps.0.latency_ms"),
        ({"steps": [step("s1", latency_ms="12")]}, "steps.0.latency_ms"),
        ({"steps": [step("s1", latency_ms=10**30)]}, "steps.0.latency_ms"),
        ({"steps": [step("s1", retries=-1)]}, "steps.0.retries"),
        ({"steps": [step("s1", retries=1.5)]}, "steps.0.retries"),
        ({"steps": [step("s1", retries=True)]}, "steps.0.retries"),
        ({"steps": [step("s1", retries=2**63)]}, "steps.0.retries"),
        ({"steps": [step("s1", 5, ended_at=time_text(4))]}, "steps.0"),
        ({"steps": [step("s1"), step("s1")]}, "steps.step_id"),
        ({"tool_calls": [tool_call("c"), tool_call("c")]}, "tool_calls.call_id"),
        ({"tool_calls": [tool_call("c", status_code=-1)]}, "tool_calls.0.status_code"),
        ({"guardrail_events": [guardrail_event("g"), guardrail_event("g")]}, "guardrail_events.event_id"),
        ({"cost": {"total_cost_usd": -0.1}}, "cost.total_cost_usd"),
        ({"cost": {"tokens_prompt": 2**64}}, "cost.tokens_prompt"),
        ({"cost": []}, "cost"),
        ({"correlation_ids": "one"}, "correlation_ids"),
        ({"correlation_ids": ["a", 1]}, "correlation_ids.1"),
        ({"question": {"text": "Where is it?"}}, "question"),
        ({"answer": 42}, "answer"),
    ],
)
def test_invalid_field_is_named(change: RunBody, field: str) -> None:
    assert field in problems(minimal_run(**change))


def test_null_for_a_field_with_a_default_is_the_default() -> None:
    lists = dict.fromkeys(("correlation_ids", "agents", "steps", "tool_calls", "guardrail_events"))
    steps, calls = [step("s1", retries=None)], [tool_call("c1", retries=None)]

    empty = check_agent_run(minimal_run(**lists))
    filled = check_agent_run(minimal_run(steps=steps, tool_calls=calls))

    assert empty == check_agent_run(minimal_run())
    assert filled.steps[0].retries == 0
    assert filled.tool_calls[0].retries == 0


def test_question_and_answer_are_optional_texts() -> None:
    run = read_agent_run(encode(minimal_run(question="Where is my order?", answer="It is on its way.")))
    assert run.question == "Where is my order?"
    assert run.answer == "It is on its way."
    assert read_agent_run(encode(minimal_run())).answer is None


def test_error_about_an_end_before_the_start_names_both_times_and_the_remedy() -> None:
    message = problems({**minimal_run(), "started_at": "2026-01-02T00:00:00Z", "ended_at": "2026-01-01T00:00:00Z"})[
        "body"
    ]

    assert message == (
        "ended_at 2026-01-01T00:00:00Z is before started_at 2026-01-02T00:00:00Z; send an end that is not before the"
        " start, or no ended_at"
    )


@pytest.mark.parametrize("body", [[], "run", 1, None, True])
def test_run_must_be_an_object(body: Any) -> None:
    assert "body" in problems(body)


def test_every_missing_field_is_named() -> None:
    assert set(problems({})) == {"run_id", "agent_name", "started_at", "status"}


def test_messages_are_bounded_for_long_values() -> None:
    found = problems({"run_id": "x" * 10_000, **{f"f{number}": 1 for number in range(100)}, "status": "y" * 10_000})

    assert all(len(message) <= 500 for message in found.values())


def test_many_invalid_items_give_one_message() -> None:
    found = problems(minimal_run(steps=[1] * 100_000))

    assert set(found) == {"steps.0"}


def test_duplicates_are_listed_up_to_a_limit() -> None:
    pairs = [tool_call(f"c{number}") for number in range(MAX_PROBLEMS * 2)] * 2

    with pytest.raises(InvalidInputError) as caught:
        check_agent_run(minimal_run(tool_calls=pairs))

    assert len(caught.value.problems) == MAX_PROBLEMS
    assert f"({MAX_PROBLEMS * 2 - 1} more)" in caught.value.message


def test_list_of_too_many_items_is_rejected_by_name() -> None:
    assert "correlation_ids" in problems(minimal_run(correlation_ids=["x"] * (MAX_ITEMS + 1)))


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"{",
        b"{}{}",
        b"\xff\xfe",
        b'{"run_id": "\xff"}',
        b'{"run_id": "a", "run_id": "b"}',
        b'{"a": NaN}',
        b'{"a": 1e999}',
        b'{"a": "\\u0000"}',
        b'{"\\u0000": 1}',
        b'{"a": "\\ud800"}',
        b'{"a": ' + b"9" * 5_000 + b"}",
        b"[" * 100_000,
        b'{"a": ' + b"[" * 300 + b"]" * 300 + b"}",
        b"\xef\xbb\xbf{}",
    ],
    ids=lambda raw: repr(raw[:20]),
)
def test_bytes_that_are_not_strict_json_are_rejected(raw: bytes) -> None:
    with pytest.raises(MalformedBodyError):
        read_agent_run(raw)


def test_times_without_an_offset_are_utc_and_finer_digits_are_cut() -> None:
    plain = check_agent_run(minimal_run(started_at="2024-01-15T10:30:00.1234569"))
    offset = check_agent_run(minimal_run(started_at="2024-01-15T12:30:00.123456+02:00"))

    assert plain.started_at == offset.started_at == 1_705_314_600_123_456


@pytest.mark.parametrize(
    "run_id", ["ü ß 漢字", "x" * 200, "a b", "%2F", "a?b#c", "…", "rca-runs2", "👩‍🔬", "\u202eabc"]
)
def test_ids_may_be_any_printable_text(run_id: str) -> None:
    assert check_agent_run(minimal_run(run_id)).run_id == run_id
