"""Exporters that keep sending traces, in parts and with retries, while the server or its database fails."""

from __future__ import annotations

import random
import threading
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import httpx
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from rig.waiting import wait_until
from support.lab.installation import Lab
from support.otlp.traces import AGENT, CHAT, TOOL, Trace, assert_refused, assert_taken, encode, post
from support.otlp.traces import span_id as span_id_of
from support.telemetry.posters import PAUSE_S, Senders

KINDS = {"step": 0, "tool_call": 1, "guardrail_event": 2}
"""The values of `timeline_items.kind` by the kind of an item."""

SpanKey = tuple[str, str]
"""Trace id and span id, in hex."""


def busy_trace(name: str) -> tuple[list[Span], dict[SpanKey, str]]:
    """Return the spans of a trace, and the kind of each span that is in the timeline."""
    trace = Trace(name)
    spans = [trace.span("root", None, AGENT, end_ms=100), trace.span("http", "root", {"http.request.method": "GET"})]
    kinds: dict[SpanKey, str] = {}
    for number in range(6):
        start = 10.0 * number
        chat = trace.span(f"chat-{number}", "root", CHAT, start_ms=start, end_ms=start + 3)
        error = {"status": 2, "message": "it broke"} if number == 3 else {}
        tool = trace.span(f"tool-{number}", "root", TOOL, start_ms=start + 4, end_ms=start + 9, **error)  # type: ignore[arg-type]
        spans += [chat, tool]
        kinds |= {key_of(chat): "step", key_of(tool): "tool_call"}
    guard = trace.span("guard", "root", {"openinference.span.kind": "GUARDRAIL"}, start_ms=80, status=2)
    kinds[key_of(guard)] = "guardrail_event"
    return [*spans, guard], kinds


def key_of(span: Span) -> SpanKey:
    """Return the key of a span: its trace id and its span id."""
    return span.trace_id.hex(), span.span_id.hex()


@dataclass
class Exporters(Senders):
    """Threads that export new traces while the block runs; unacknowledged spans are sent again.

    Attributes:
        acknowledged: the spans of requests that were answered with 200.
        kinds: the kinds of all sent spans that are in a timeline.
        requests: the number of acknowledged requests.
    """

    acknowledged: set[SpanKey] = field(default_factory=set)
    kinds: dict[SpanKey, str] = field(default_factory=dict)
    requests: int = 0
    _choice: random.Random = field(default_factory=lambda: random.Random(20_260_502))
    _left: list[list[Span]] = field(default_factory=list)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def wait_for_acknowledgements(self, enough: int = 25) -> None:
        """Wait until `enough` more requests have been acknowledged."""
        wanted = self.requests + enough
        wait_until(lambda: self.requests >= wanted, within_s=60.0, what="exports being acknowledged")

    def _next(self) -> list[Span]:
        """Return the spans of the next export: parts of two traces in random order, some spans twice."""
        with self._lock:
            if not self._left:
                spans = []
                for _ in range(2):
                    made, kinds = busy_trace(f"busy {next(self._numbers)}")
                    self.kinds |= kinds
                    spans += made
                spans += self._choice.sample(spans, 6)
                self._choice.shuffle(spans)
                self._left = [spans[start : start + 9] for start in range(0, len(spans), 9)]
            return self._left.pop()

    def _send(self, client: httpx.Client) -> None:
        spans = self._next()
        while not self._is_taken(client, spans) and not self._stop.is_set():
            # A pause, because an unavailable server needs time to recover.
            self._stop.wait(PAUSE_S)

    def _is_taken(self, client: httpx.Client, spans: list[Span]) -> bool:
        try:
            answer = post(client, encode(spans))
        except httpx.TransportError:
            self.unanswered += 1
            return False
        if not answer.is_success:
            self.refused.append(answer)
            return False
        assert assert_taken(answer) == (0, "")
        with self._lock:
            self.acknowledged |= set(map(key_of, spans))
            self.requests += 1
        return True


def assert_unavailable(refused: list[httpx.Response]) -> None:
    """Assert that every rejection says that the server is temporarily unavailable, in OTLP's form."""
    for answer in refused:
        assert_refused(answer, 503, "protobuf")


def assert_stored_once_and_counted(lab: Lab, exporters: Exporters) -> None:
    """Assert that each acknowledged span is stored once, and that runs and overview match the stored spans."""
    installation = lab.installation
    # Each request of the overview projects some of the unprojected runs.
    wait_until(
        lambda: lab.get("/metrics/overview", hours=24 * 365 * 50)["unprojected_runs"] == 0, what="the projections"
    )
    stored = [(trace_id, span_id) for trace_id, span_id in installation.query("SELECT trace_id, span_id FROM spans")]
    assert len(stored) == len(set(stored))
    assert exporters.acknowledged
    assert exporters.acknowledged <= set(stored)
    items = installation.query("SELECT run_id, ref_id, kind FROM timeline_items")
    assert sorted(items) == sorted((*key, KINDS[exporters.kinds[key]]) for key in stored if key in exporters.kinds)
    runs = installation.query("SELECT run_id, step_count, tool_call_count, guardrail_event_count FROM agent_runs")
    assert sorted(run[0] for run in runs) == sorted({trace_id for trace_id, _ in stored})
    by_kind = Counter((key[0], exporters.kinds[key]) for key in stored if key in exporters.kinds)
    for run_id, *counts in runs:
        assert counts == [by_kind[run_id, kind] for kind in KINDS]
    broken = [span_id for _, span_id in stored].count(span_id_of("tool-3"))
    _assert_shown(lab, runs, broken)


def _assert_shown(lab: Lab, runs: list[tuple[Any, ...]], broken: int) -> None:
    for run_id, *counts in runs[-10:]:
        shown = lab.get(f"/agent-runs/{run_id}")
        assert list(shown["counts"].values()) == counts
        page = lab.get(f"/agent-runs/{run_id}/timeline")
        assert page["total"] == len({item["ref_id"] for item in page["items"]}) == sum(counts)
    overview = lab.get("/metrics/overview", hours=24 * 365 * 50)
    assert overview["total_runs"] == len(runs)
    assert overview["top_failing_tools"] == ([{"tool": "order_lookup", "count": broken}] if broken else [])
