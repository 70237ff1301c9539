"""A load of OTLP traces for any receiver, as a process of its own; prints one line of JSON.

Each trace is an agent's run of 10 spans with GenAI attributes (the agent, 4 calls of a
model, 5 calls of a tool; a fifth of them fail), 20 traces a request. Requests are stamped
from a hundred templates with new ids and times, so that the load takes a few percent of
a core and any number of spans fits in memory.

Closed loop (default): so many connections, each sends the next request when the last is
answered. Open loop (`--rate`): requests are due at fixed times, and a latency counts from
when it was due, so that a server that stalls cannot hide it.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import resource
import time
from collections.abc import Iterator
from dataclasses import dataclass, field

import aiohttp
import numpy as np
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

SPANS_PER_TRACE = 10
TEMPLATES = 100
RETRY_S = 0.05
_NS_PER_MS = 1_000_000
# Times of a template count from here: bytes that occur nowhere else, and so can be found.
_EPOCH = 0x2B67_C3A9_5D00_0000
_PLAN = "First find the order, then ask the carrier where it is, then tell the customer. " * 4


def template(rng: random.Random, traces: int) -> ExportTraceServiceRequest:
    """Return a request of so many traces with ids that occur once each."""
    request = ExportTraceServiceRequest()
    group = request.resource_spans.add()
    _set(group.resource.attributes, {"service.name": "bench-agent", "deployment.environment.name": "bench"})
    spans = group.scope_spans.add()
    spans.scope.name = "bench"
    for _ in range(traces):
        _add_trace(spans.spans, rng)
    return request


def _add_trace(spans, rng: random.Random) -> None:
    trace_id, root, fails = rng.randbytes(16), rng.randbytes(8), rng.random() < 0.2
    at = _EPOCH + rng.randrange(1_000) * _NS_PER_MS
    start = at
    for _ in range(4):
        span = spans.add(trace_id=trace_id, span_id=rng.randbytes(8), parent_span_id=root, name="chat gpt-4o", kind=3)
        span.start_time_unix_nano, span.end_time_unix_nano = at, at + 700 * _NS_PER_MS
        at += 700 * _NS_PER_MS
        attributes = {
            "gen_ai.operation.name": "chat",
            "gen_ai.provider.name": "openai",
            "gen_ai.request.model": "gpt-4o",
            "gen_ai.usage.input_tokens": rng.randrange(200, 4_000),
            "gen_ai.usage.output_tokens": rng.randrange(20, 800),
            "gen_ai.output.messages": _PLAN,
        }
        _set(span.attributes, attributes)
    for number in range(5):
        span = spans.add(
            trace_id=trace_id, span_id=rng.randbytes(8), parent_span_id=root, name="execute_tool find_order"
        )
        span.start_time_unix_nano, span.end_time_unix_nano = at, at + 90 * _NS_PER_MS
        at += 90 * _NS_PER_MS
        arguments = json.dumps({"order_number": rng.randrange(10**6), "with_items": True, "locale": "en-GB"})
        attributes = {
            "gen_ai.operation.name": "execute_tool",
            "gen_ai.tool.name": "find_order",
            "gen_ai.tool.call.id": f"call-{number}",
            "gen_ai.tool.call.arguments": arguments,
            "http.response.status_code": 400 if fails and number == 2 else 200,
        }
        _set(span.attributes, attributes)
        if fails and number == 2:
            _fail(span, "ValidationError", "Missing required field: 'customer_id'")
    span = spans.add(trace_id=trace_id, span_id=root, name="invoke_agent support")
    span.start_time_unix_nano, span.end_time_unix_nano = start, at
    agent = {"gen_ai.operation.name": "invoke_agent", "gen_ai.agent.name": "support"}
    _set(span.attributes, agent | {"gen_ai.conversation.id": f"conversation-{rng.randrange(10**9)}"})
    if fails:
        _fail(span, "ToolCallError", "the tool failed")


def _fail(span, kind: str, message: str) -> None:
    span.status.code, span.status.message = 2, message
    _set(span.attributes, {"error.type": kind})
    event = span.events.add(name="exception", time_unix_nano=span.end_time_unix_nano)
    _set(event.attributes, {"exception.type": kind, "exception.message": message})


def _set(target, attributes: dict[str, str | int]) -> None:
    for key, value in attributes.items():
        pair = target.add(key=key)
        if isinstance(value, str):
            pair.value.string_value = value
        else:
            pair.value.int_value = value


class Stamp:
    """A serialised template, and where in it the ids and times stand."""

    def __init__(self, request: ExportTraceServiceRequest) -> None:
        spans = request.resource_spans[0].scope_spans[0].spans
        # A conversation id is text and stays that of the template.
        self._bytes = request.SerializeToString()
        self.spans = len(spans)
        self._traces = self._places([span.trace_id for span in spans])
        self._ids = self._places([part for span in spans for part in (span.span_id, span.parent_span_id) if part])
        moments = {
            at.to_bytes(8, "little") for span in spans for at in (span.start_time_unix_nano, span.end_time_unix_nano)
        }
        self._times = self._places(sorted(moments))

    def _places(self, values: list[bytes]) -> list[tuple[bytes, np.ndarray]]:
        found = []
        for value in dict.fromkeys(values):
            places, start = [], self._bytes.find(value)
            while start >= 0:
                places.append(start)
                start = self._bytes.find(value, start + 1)
            found.append((value, np.array(places)))
        return found

    def print(self, rng: np.random.Generator, now_ns: int) -> bytes:
        """Return the request with new ids, its times counted from `now_ns`."""
        copy = np.frombuffer(self._bytes, dtype=np.uint8).copy()
        for group in (self._traces, self._ids):
            size = len(group[0][0])
            fresh = rng.integers(0, 256, (len(group), size), dtype=np.uint8)
            for (_, places), value in zip(group, fresh, strict=True):
                for place in places:
                    copy[place : place + size] = value
        for value, places in self._times:
            at = int.from_bytes(value, "little") - _EPOCH + now_ns
            moved = np.frombuffer(at.to_bytes(8, "little"), dtype=np.uint8)
            for place in places:
                copy[place : place + 8] = moved
        return copy.tobytes()


@dataclass
class Tally:
    """What became of the requests."""

    latencies_ms: list[float] = field(default_factory=list)
    refused: dict[str, int] = field(default_factory=dict)
    errors: dict[str, int] = field(default_factory=dict)
    spans: int = 0


async def send(session: aiohttp.ClientSession, url: str, body: bytes, spans: int, due: float, tally: Tally) -> None:
    """Send one request until it is taken; 429 and 503 are tried again."""
    while True:
        try:
            async with session.post(url, data=body) as response:
                await response.read()
                status = response.status
        except (aiohttp.ClientError, TimeoutError) as error:
            status = 0
            name = type(error).__name__
        if status in {429, 503}:
            tally.refused[str(status)] = tally.refused.get(str(status), 0) + 1
            await asyncio.sleep(float(response.headers.get("Retry-After", RETRY_S)))
            continue
        if 200 <= status < 300:
            tally.latencies_ms.append((time.perf_counter() - due) * 1_000)
            tally.spans += spans
        else:
            key = str(status) if status else name
            tally.errors[key] = tally.errors.get(key, 0) + 1
        return


async def drive(args: argparse.Namespace, requests: Iterator[tuple[bytes, int]]) -> tuple[Tally, float]:
    """Send all requests; return what became of them and the seconds to the last answer."""
    tally = Tally()
    headers = {"Content-Type": "application/x-protobuf", **dict(item.split("=", 1) for item in args.header)}
    connector = aiohttp.TCPConnector(limit=args.conns if args.rate is None else 0)
    async with aiohttp.ClientSession(connector=connector, headers=headers) as session:
        started = time.perf_counter()
        if args.rate is None:

            async def work() -> None:
                for body, spans in requests:
                    await send(session, args.url, body, spans, time.perf_counter(), tally)

            await asyncio.gather(*(work() for _ in range(args.conns)))
        else:
            tasks, due = [], started
            for body, spans in requests:
                await asyncio.sleep(max(due - time.perf_counter(), 0))
                tasks.append(asyncio.create_task(send(session, args.url, body, spans, due, tally)))
                due += spans / args.rate
            await asyncio.gather(*tasks)
        return tally, time.perf_counter() - started


def printed(traces: int, per_request: int, seed: int, span_of_s: float) -> Iterator[tuple[bytes, int]]:
    """Yield `(request, spans)`; the runs started within the last `span_of_s` seconds."""
    rng = random.Random(seed)
    count = -(-traces // per_request)
    stamps = [Stamp(template(rng, per_request)) for _ in range(min(TEMPLATES, count))]
    fresh = np.random.default_rng(seed)
    begin_ns = time.time_ns() - int(span_of_s * 1e9)
    for number in range(count):
        stamp = stamps[number % len(stamps)]
        yield stamp.print(fresh, begin_ns + int(number / count * span_of_s * 0.99 * 1e9)), stamp.spans


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("url")
    parser.add_argument("--traces", type=int, default=500)
    parser.add_argument("--conns", type=int, default=8)
    parser.add_argument("--per-request", type=int, default=20)
    parser.add_argument("--rate", type=float, help="Spans per second, open loop.")
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--spread-s", type=float, default=3_600.0, help="The runs started within the last so many s.")
    parser.add_argument("--header", action="append", default=[])
    args = parser.parse_args()
    requests = printed(args.traces, args.per_request, args.seed, args.spread_s)
    if args.traces <= 10_000:
        requests = iter(list(requests))
    used_before = resource.getrusage(resource.RUSAGE_SELF)
    tally, seconds = asyncio.run(drive(args, requests))
    used = resource.getrusage(resource.RUSAGE_SELF)
    cpu_s = used.ru_utime + used.ru_stime - used_before.ru_utime - used_before.ru_stime
    latencies = sorted(tally.latencies_ms) or [float("nan")]
    print(
        json.dumps(
            {
                "spans": tally.spans,
                "seconds": round(seconds, 3),
                "spans_per_s": round(tally.spans / seconds, 1),
                "p50_ms": round(latencies[len(latencies) // 2], 1),
                "p99_ms": round(latencies[min(int(len(latencies) * 0.99), len(latencies) - 1)], 1),
                "max_ms": round(latencies[-1], 1),
                "requests": len(tally.latencies_ms),
                "refused": tally.refused,
                "errors": tally.errors,
                "load_cores": round(cpu_s / seconds, 3),
            }
        )
    )


if __name__ == "__main__":
    main()
