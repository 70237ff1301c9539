"""Convergence of traces: the same spans make the same run if they arrive late, twice, in any order or at once."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.proto.trace.v1.trace_pb2 import Span
from starlette.testclient import TestClient

from relab.bootstrap import Services
from support.api.client import at_time, running_api
from support.clocks import MovableClock
from support.otlp.traces import (
    AGENT,
    CHAT,
    ENCODINGS,
    START_NS,
    TOOL,
    Encoding,
    Trace,
    assert_taken,
    encode,
    pairs,
    post,
    stored_spans,
)
from support.telemetry.runs import examples

TRACES = (Trace("converge a"), Trace("converge b"))
NAMES = ("root", "one", "two", "three", "four", "five", "six", "seven")
HOURS = (0.5, 1.1, 50.0)
"""Windows of the overview in hours: they contain few, some and all runs."""

MINUTE_MS = 60_000
GUARDRAIL = {"openinference.span.kind": "GUARDRAIL"}
ROLES: tuple[dict[str, Any], ...] = (
    AGENT | {"gen_ai.agent.version": "2", "gen_ai.conversation.id": "talk"},
    {"openinference.span.kind": "AGENT", "session.id": "other talk", "agent.name": "helper"},
    {"openinference.span.kind": "CHAIN"},
    CHAT | {"gen_ai.usage.input_tokens": 90, "gen_ai.usage.output_tokens": 9, "gen_ai.usage.cost": 0.25},
    CHAT | {"gen_ai.output.messages": '[{"parts": [{"type": "tool_call", "id": "call-1", "name": "f"}]}]'},
    CHAT | {"gen_ai.response.finish_reasons": ["content_filter"]},
    TOOL | {"gen_ai.tool.call.id": "call-1", "gen_ai.tool.call.arguments": '{"order": 1}'},
    TOOL | {"gen_ai.tool.call.result": "found", "http.response.status_code": 200},
    {"openinference.span.kind": "RETRIEVER", "input.value": "query"},
    {"gen_ai.operation.name": "embeddings", "gen_ai.usage.input_tokens": 4},
    GUARDRAIL | {"guardrail.passed": True},
    GUARDRAIL | {"guardrail.passed": False, "output.value": "not allowed"},
    {"http.request.method": "GET"},
    {},
)


@dataclass(frozen=True)
class Report:
    """One version of a span, as an export contains it.

    Attributes:
        process: number of the process that sends the span, 0 or 1.
        is_final: whether the span is complete.
    """

    span: Span
    process: int
    is_final: bool


Batch = tuple[Encoding, list[Report]]


@st.composite
def reports(draw: st.DrawFn, trace: Trace) -> list[Report]:
    """Draw the spans of a trace, some of them also in an earlier version without an end."""
    names = NAMES[: draw(st.integers(1, len(NAMES)))]
    made = []
    for name in names:
        # Most spans form trees; some form circles, have several roots or a parent that never arrives.
        parent = draw(st.sampled_from([*names, *names[:2], names[0], "nobody", None, None]))
        start_ms = draw(st.sampled_from([0, 0, 1, 2, 500, MINUTE_MS, -2 * MINUTE_MS]))
        lasts_ms = draw(st.sampled_from([0, 1, 40, 1_500, 1_500, -3, None]))
        attributes = draw(st.sampled_from(ROLES))
        end_ms = None if lasts_ms is None else start_ms + lasts_ms
        error = draw(st.sampled_from([None, None, None, "status", "type", "event"]))
        final = trace.span(
            name, parent, attributes, start_ms=start_ms, end_ms=end_ms, **({"status": 2, "message": "it broke"} if error == "status" else {})
        )  # fmt: skip
        if error == "type":
            final.attributes.extend(pairs({"error.type": "RateLimitError"}))
        if error == "event":
            final.events.add(name="exception", attributes=pairs({"exception.type": draw(st.sampled_from(["A", "B"]))}))
        process = draw(st.integers(0, 1))
        made.append(Report(final, process, True))
        if draw(st.booleans()):
            kept = draw(st.sets(st.sampled_from(sorted(attributes)))) if attributes else set()
            early = trace.span(
                name,
                draw(st.sampled_from([parent, None])),
                {key: _earlier(value) for key, value in attributes.items() if key in kept},
                start_ms=start_ms,
                end_ms=None,
            )
            made.append(Report(early, process, False))
    return made


def _earlier(value: Any) -> Any:
    """Return an attribute's value in an earlier version of its span: half of an integer, other values unchanged."""
    return value // 2 if type(value) is int else value


@st.composite
def deliveries(draw: st.DrawFn) -> tuple[list[Report], list[Batch]]:
    """Draw the spans of two traces, and batches that deliver them with repetitions in some order."""
    sent = [report for trace in TRACES for report in draw(reports(trace))]
    again = draw(st.lists(st.sampled_from(sent), max_size=5))
    order = draw(st.permutations(sent + again))
    cuts = sorted(draw(st.sets(st.integers(1, len(order)), max_size=5)))
    batches = [order[start:end] for start, end in zip([0, *cuts], [*cuts, len(order)], strict=True)]
    return sent, [(draw(st.sampled_from(ENCODINGS)), batch) for batch in batches if batch]


@pytest.fixture(scope="module")
def api(installation: Services) -> Iterator[TestClient]:
    """A client of an API whose clock is stopped one hour after the traces."""
    with running_api(at_time(installation, MovableClock(START_NS // 1_000 + 60 * 60_000_000))) as client:
        yield client


def send(api: TestClient, batch: Batch) -> None:
    """Send a batch as two exports, one from each of the two processes."""
    encoding, sent = batch
    for process in (0, 1):
        spans = [report.span for report in sent if report.process == process]
        if spans:
            body = encode(spans, encoding, {"service.name": f"process {process}", "service.version": process})
            assert assert_taken(post(api, body, encoding)) == (0, "")


def overview(api: TestClient) -> list[Any]:
    return [api.get("/metrics/overview", params={"hours": hours}).json() for hours in HOURS]


def seen(api: TestClient) -> list[Any]:
    """Return everything that the API shows of the two traces, and delete them."""
    found: list[Any] = [overview(api)]
    for trace in TRACES:
        found.append(api.get(f"/agent-runs/{trace.id}").json())
        found.append(api.get(f"/agent-runs/{trace.id}/timeline").json())
        found.append([_in_order(span) for span in stored_spans(api, trace)])
    for trace in TRACES:
        assert api.delete(f"/agent-runs/{trace.id}").status_code == 204
        assert api.get(f"/agent-runs/{trace.id}/spans").status_code == 404
    return found


def _in_order(span: dict[str, Any]) -> dict[str, Any]:
    """Return a span with its attributes sorted, because their order has no meaning."""
    return {**span, "attributes": sorted(span.get("attributes", ()), key=lambda pair: str(pair["key"]))}


def check(api: TestClient, sent: Sequence[Report], batches: Sequence[Batch], *, at_once: bool) -> None:
    before = overview(api)
    send(api, ("protobuf", [report for report in sent if report.is_final]))
    wanted = seen(api)
    # Deleting the runs restores the counts of the overview.
    assert overview(api) == before

    if at_once:
        with ThreadPoolExecutor(4) as threads:
            list(threads.map(lambda batch: send(api, batch), batches))
    else:
        for batch in batches:
            send(api, batch)
    assert seen(api) == wanted
    assert overview(api) == before


@given(deliveries())
@examples(8)
def test_order_of_arrival_does_not_change_the_runs(api: TestClient, delivery: tuple[list[Report], list[Batch]]) -> None:
    check(api, *delivery, at_once=False)


@given(deliveries())
@examples(4)
def test_concurrent_exports_do_not_change_the_runs(api: TestClient, delivery: tuple[list[Report], list[Batch]]) -> None:
    check(api, *delivery, at_once=True)


@pytest.mark.full
@pytest.mark.timeout(900)
@given(deliveries(), st.booleans())
@examples(400)
def test_no_order_of_arrival_changes_the_runs_in_many_examples(
    api: TestClient, delivery: tuple[list[Report], list[Batch]], at_once: bool
) -> None:
    check(api, *delivery, at_once=at_once)


def test_span_exported_before_its_end_is_shown_like_a_span_exported_once(api: TestClient) -> None:
    """Merging two versions of a span reorders its attributes, but a list of message parts must keep its order."""
    prefix = "llm.output_messages.0.message.contents"
    parts = {f"{prefix}.{number}.message_content.text": f"part {number}" for number in range(12)}
    role = {"openinference.span.kind": "LLM"}
    sent = [Report(TRACES[1].span("root", None, AGENT), 0, True), Report(TRACES[0].span("root", None, AGENT), 0, True)]
    sent.append(Report(TRACES[0].span("said", "root", role | parts), 0, True))
    early = Report(TRACES[0].span("said", "root", role, end_ms=None), 0, False)
    check(api, sent, [("protobuf", [early]), ("protobuf", sent)], at_once=False)


def test_spans_sent_one_by_one_make_the_same_run_as_all_at_once(api: TestClient) -> None:
    trace, other = TRACES
    root = trace.span("root", None, ROLES[0], end_ms=9_000)
    sent = [Report(root, 0, True), Report(other.span("root", None, AGENT), 0, True)]
    for number in range(40):
        role = ROLES[number % len(ROLES)]
        span = trace.span(f"s{number}", f"s{number // 2}" if number % 3 else "root", role, start_ms=number % 7)
        sent.append(Report(span, number % 2, True))
    # Each span is sent alone, children first and the root last.
    check(api, sent, [(ENCODINGS[n % 2], [report]) for n, report in enumerate(reversed(sent))], at_once=False)
