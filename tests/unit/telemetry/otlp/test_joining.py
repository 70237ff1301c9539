"""Joining of reports: several reports of one span become one span that depends only on the set of reports."""

from __future__ import annotations

import itertools
from functools import reduce
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.proto.trace.v1.trace_pb2 import Span as SpanMessage

from relab.telemetry.otlp.joining import join_spans
from support.telemetry.runs import examples
from unit.telemetry.otlp.builders import AGENT, CHAT, exception, pairs, received, run_of, span
from unit.telemetry.otlp.strategies import spans

reports_of_one = spans(name="it").map(lambda report: report.SerializeToString())


@given(reports_of_one, reports_of_one)
@examples(60)
def test_joining_is_commutative(one: bytes, other: bytes) -> None:
    assert join_spans(one, other) == join_spans(other, one)


@given(reports_of_one, reports_of_one, reports_of_one)
@examples(60)
def test_joining_is_associative(one: bytes, two: bytes, three: bytes) -> None:
    assert join_spans(join_spans(one, two), three) == join_spans(one, join_spans(two, three))


@given(reports_of_one, reports_of_one)
@examples(60)
def test_joining_again_changes_nothing(one: bytes, other: bytes) -> None:
    joined = join_spans(one, other)
    assert join_spans(one, one) == one
    assert join_spans(joined, one) == join_spans(other, joined) == join_spans(joined, joined) == joined


@given(st.lists(reports_of_one, min_size=2, max_size=4), st.data())
@examples(60)
def test_any_order_of_many_reports_joins_to_the_same(reports: list[bytes], data: st.DataObject) -> None:
    shuffled = data.draw(st.permutations([*reports, data.draw(st.sampled_from(reports))]))
    assert reduce(join_spans, shuffled[1:], join_spans(shuffled[0], reports[0])) == reduce(
        join_spans, reports[1:], join_spans(reports[0], shuffled[0])
    )


@given(reports_of_one, reports_of_one)
@examples(40)
def test_merged_span_is_accepted_again(one: bytes, other: bytes) -> None:
    [span_] = received(join_spans(one, other))
    assert span_.start_us == min(item.start_us for item in received(one, other))


def joined(one: SpanMessage, other: SpanMessage) -> SpanMessage:
    return SpanMessage.FromString(join_spans(one.SerializeToString(), other.SerializeToString()))


def test_reports_from_before_and_after_the_end_become_one_step() -> None:
    before = span("it", None, CHAT | {"gen_ai.usage.output_tokens": 1}, end=None)
    after = span("it", "root", {"gen_ai.usage.output_tokens": 20, "gen_ai.output.messages": "hello"}, end=5)
    run = run_of(before, span("root", None, AGENT), after)
    [step] = run.steps
    assert step.status == "success"
    assert step.latency_ms == 5.0
    assert step.output_summary == "hello"
    assert run.cost is not None
    assert run.cost.tokens_completion == 20


def test_more_complete_report_wins_field_by_field() -> None:
    one = span("it", None, {"a": 1, "b": "x"}, start=2, end=None, title="chat", status=1)
    other = span("it", "root", {"a": True, "c": [1]}, start=1, end=9, title="chat gpt", status=2, message="boom")
    result = joined(one, other)
    assert result.name == "chat gpt"
    assert result.parent_span_id == other.parent_span_id
    assert result.start_time_unix_nano == other.start_time_unix_nano
    assert result.end_time_unix_nano == other.end_time_unix_nano
    assert result.status.code == 2
    assert result.status.message == "boom"
    assert list(result.attributes) == pairs({"a": 1, "b": "x", "c": [1]})


VALUES: dict[str, tuple[object, object]] = {
    "any value beats none": (None, False),
    "a number beats a flag": (True, -5),
    "the greater number": (2, 10),
    "a double may be the greater number": (2, 2.5),
    "a number beats one that is none": (float("nan"), -1e308),
    "a text beats a number": (10**9, ""),
    "the longer text": ("b", "aa"),
    "of equally long texts the later": ("a", "b"),
    "a list beats a text": ("long enough", []),
    "the longer list": ([1], [1, 2]),
    "an object beats a text": ("long enough", {}),
}


@pytest.mark.parametrize(("less", "more"), VALUES.values(), ids=VALUES)
def test_more_informative_of_two_attribute_values_wins(less: object, more: object) -> None:
    result = joined(span("it", None, {"key": less}), span("it", None, {"key": more}))
    assert list(result.attributes) == pairs({"key": more})


def test_events_and_links_are_merged_without_duplicates_in_order_of_time() -> None:
    shared = exception("Both", "m")
    one = span("it", None, {}, events=[shared, exception("Late", "l")])
    other = span("it", None, {}, events=[shared])
    other.events.add(name="early", time_unix_nano=1)
    one.links.add(trace_id=b"t" * 16, span_id=b"s" * 8)
    other.links.add(trace_id=b"t" * 16, span_id=b"s" * 8)
    result = joined(one, other)
    assert [event.time_unix_nano for event in result.events] == sorted(event.time_unix_nano for event in result.events)
    assert len(result.events) == 3
    assert len(result.links) == 1


def test_error_stays_an_error_after_a_later_report_of_success() -> None:
    for reports in itertools.permutations([span("it", "root", CHAT, status=2), span("it", "root", CHAT, status=1)]):
        assert run_of(span("root", None, AGENT), *reports).steps[0].status == "failure"


BEYOND: dict[str, tuple[Any, Any]] = {
    "attributes": (
        lambda n: span("it", "root", CHAT | {f"{n}.{i}": i for i in range(6_000)}),
        "more attributes than one span may have",
    ),
    "events": (
        lambda n: span("it", "root", CHAT, events=[(f"{n}.{i}", {}) for i in range(6_000)]),
        "more events than one span may have",
    ),
    "bytes": (
        lambda n: span("it", "root", CHAT | {f"big{n}": "x" * 5_000_000}),
        "more bytes than one span may have",
    ),
}


@pytest.mark.parametrize("report", [make for make, _ in BEYOND.values()], ids=BEYOND)
def test_accepted_reports_join_to_an_accepted_span(report: Any) -> None:
    run = run_of(span("root", None, AGENT), report(1), report(2))
    assert len(run.steps) == 1
