"""Send a load of OTLP traces to any receiver; this is a separate process, which prints one line of JSON.

Each trace is an agent's run of 10 spans with GenAI attributes (the agent, 4 calls of a model, 5 calls of a tool; a
fifth of the runs fail), 20 traces a request. Requests are copies of a hundred templates with new ids and times, so that
the load takes a few percent of a core and any number of spans fits in memory.
Closed loop (default): there are `--conns` connections, and each sends the next request when the last one is answered.
Open loop (`--rate`): requests are due at fixed times, and a latency counts from when the request was due, so that a
server that stalls cannot hide it.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import resource
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field

import aiohttp
import numpy as np
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

SPANS_PER_TRACE = 10
TEMPLATES = 100
RETRY_S = 0.05
GIVE_UP_S = 300.0
"""The time after which a request that is still rejected counts as an error, in seconds.

So a receiver that never recovers cannot block the benchmark.
"""
_NS_PER_MS = 1_000_000
# Base time of a template: its bytes occur nowhere else, so that the times can be found in the serialised request.
_EPOCH = 0x2B67_C3A9_5D00_0000
_PLAN = "First find the order, then ask the carrier where it is, then tell the customer. " * 4


def template(rng: random.Random, traces: int) -> ExportTraceServiceRequest:
    """Return a request with `traces` traces, whose ids are unique."""
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
    """A serialised template for requests, with the byte positions of its ids and times."""

    def __init__(self, request: ExportTraceServiceRequest) -> None:
        spans = request.resource_spans[0].scope_spans[0].spans
        # Conversation ids are text and are not replaced.
        self._bytes = request.SerializeToString()
        self.spans = len(spans)
        self._traces = self._places([span.trace_id for span in spans])
        self._ids = self._places([part for span in spans for part in (span.span_id, span.parent_span_id) if part])
        moments = [at for span in spans for at in (span.start_time_unix_nano, span.end_time_unix_nano)]
        distinct = list(dict.fromkeys(moments))
        self._offsets = np.array(distinct, dtype=np.int64) - _EPOCH
        self._times = self._places([at.to_bytes(8, "little") for at in distinct])

    def _places(self, values: list[bytes]) -> tuple[int, np.ndarray, np.ndarray]:
        """Return (number of distinct values, byte indexes of occurrences `(places, size)`, value number per place)."""
        distinct = list(dict.fromkeys(values))
        starts, owners = [], []
        for number, value in enumerate(distinct):
            start = self._bytes.find(value)
            while start >= 0:
                starts.append(start)
                owners.append(number)
                start = self._bytes.find(value, start + 1)
        return len(distinct), np.array(starts)[:, None] + np.arange(len(distinct[0])), np.array(owners)

    def print(self, rng: np.random.Generator, now_ns: int) -> bytes:
        """Return a serialised request: the template with new random ids, and with its times relative to `now_ns`."""
        copy = np.frombuffer(self._bytes, dtype=np.uint8).copy()
        for count, places, owners in (self._traces, self._ids):
            copy[places] = rng.integers(0, 256, (count, places.shape[1]), dtype=np.uint8)[owners]
        _, places, owners = self._times
        copy[places] = (self._offsets + now_ns).astype("<i8").view(np.uint8).reshape(-1, 8)[owners]
        return copy.tobytes()


@dataclass
class Tally:
    """Counts of the requests by outcome, and the latencies of the accepted ones.

    Attributes:
        refused: the number of answers 429 and 503, by status.
        errors: the number of other failures, by name.
        spans: the number of accepted spans.
    """

    latencies_ms: list[float] = field(default_factory=list)
    refused: dict[str, int] = field(default_factory=dict)
    errors: dict[str, int] = field(default_factory=dict)
    spans: int = 0
    payload_bytes: int = 0


async def send(session: aiohttp.ClientSession, url: str, body: bytes, spans: int, due: float, tally: Tally) -> None:
    """Send one request and record its outcome in `tally`; retry on 429 and 503 for at most `GIVE_UP_S` seconds.

    Args:
        session: the HTTP client.
        url: the URL of the receiver.
        body: the request's body.
        spans: the number of spans in it.
        due: the time when the request was due, by `time.perf_counter`; its latency counts from then.
        tally: the counts.
    """
    wait_s = RETRY_S
    while True:
        try:
            async with session.post(url, data=body) as response:
                await response.read()
                status = response.status
                wait_s = _retry_after(response.headers.get("Retry-After"))
        except (aiohttp.ClientError, TimeoutError) as error:
            _count(tally.errors, type(error).__name__)
            return
        if status in {429, 503}:
            _count(tally.refused, str(status))
            if time.perf_counter() - due > GIVE_UP_S:
                _count(tally.errors, "gave up")
                return
            await asyncio.sleep(wait_s)
            continue
        if 200 <= status < 300:
            tally.latencies_ms.append((time.perf_counter() - due) * 1_000)
            tally.spans += spans
            tally.payload_bytes += len(body)
        else:
            _count(tally.errors, str(status))
        return


def _count(counts: dict[str, int], key: str) -> None:
    counts[key] = counts.get(key, 0) + 1


def _retry_after(value: str | None) -> float:
    # HTTP also allows a date in Retry-After, which none of these receivers sends.
    return float(value) if value is not None and value.isdecimal() else RETRY_S


async def report(tally: Tally) -> None:
    """Write the number of accepted spans to stderr twice a second, one number per line, until cancelled."""
    while True:
        print(tally.spans, file=sys.stderr, flush=True)
        await asyncio.sleep(0.5)


async def drive(args: argparse.Namespace, requests: Iterator[tuple[bytes, int]]) -> tuple[Tally, float]:
    """Send all requests; return the counts, and the seconds until the last answer.

    `args` are the command-line options; `requests` yields bodies with their numbers of spans.
    """
    tally = Tally()
    headers = {"Content-Type": "application/x-protobuf", **dict(item.split("=", 1) for item in args.header)}
    connector = aiohttp.TCPConnector(limit=args.conns if args.rate is None else 0)
    async with aiohttp.ClientSession(connector=connector, headers=headers) as session:
        reporter = asyncio.create_task(report(tally)) if args.progress else None
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
        seconds = time.perf_counter() - started
        if reporter is not None:
            reporter.cancel()
        return tally, seconds


def printed(traces: int, per_request: int, seed: int, span_of_s: float) -> Iterator[tuple[bytes, int]]:
    """Return an iterator of `(request body, number of spans)`.

    Args:
        traces: the number of traces in total.
        per_request: the number of traces in each request.
        seed: the seed of ids and contents.
        span_of_s: the traces start within this many seconds before now.
    """
    rng = random.Random(seed)
    count = -(-traces // per_request)
    # Build the templates now and not with the first request, when the time of the load is already measured.
    stamps = [Stamp(template(rng, per_request)) for _ in range(min(TEMPLATES, count))]
    fresh = np.random.default_rng(seed)
    begin_ns = time.time_ns() - int(span_of_s * 1e9)

    def print_each() -> Iterator[tuple[bytes, int]]:
        for number in range(count):
            stamp = stamps[number % len(stamps)]
            yield stamp.print(fresh, begin_ns + int(number / count * span_of_s * 0.99 * 1e9)), stamp.spans

    return print_each()


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
    parser.add_argument("--progress", action="store_true", help="Accepted spans on stderr, a line now and then.")
    args = parser.parse_args()
    requests = printed(args.traces, args.per_request, args.seed, args.spread_s)
    if args.traces <= 10_000:
        requests = iter(list(requests))
    used_before = resource.getrusage(resource.RUSAGE_SELF)
    tally, seconds = asyncio.run(drive(args, requests))
    used = resource.getrusage(resource.RUSAGE_SELF)
    cpu_s = used.ru_utime + used.ru_stime - used_before.ru_utime - used_before.ru_stime
    found = {
        "spans": tally.spans,
        "bytes": tally.payload_bytes,
        "seconds": round(seconds, 3),
        "spans_per_s": round(tally.spans / seconds, 1),
        **quantiles(tally.latencies_ms),
        "requests": len(tally.latencies_ms),
        "refused": tally.refused,
        "errors": tally.errors,
        "load_cores": round(cpu_s / seconds, 3),
    }
    print(json.dumps(found))


def quantiles(latencies_ms: list[float]) -> dict[str, float | None]:
    """Return the median, the 99th percentile and the maximum of latencies in ms; None for each without latencies."""
    if not latencies_ms:
        return dict.fromkeys(("p50_ms", "p99_ms", "max_ms"))
    ordered = sorted(latencies_ms)
    p99 = ordered[min(int(len(ordered) * 0.99), len(ordered) - 1)]
    return {"p50_ms": round(ordered[len(ordered) // 2], 1), "p99_ms": round(p99, 1), "max_ms": round(ordered[-1], 1)}


if __name__ == "__main__":
    main()
