"""The public functions of the load generator: make plans, run loads and return their results, measure throughput."""

from __future__ import annotations

import asyncio
import contextlib
import io
import resource
import time
from threading import Event
from typing import Any

import uvloop
from pydantic import ValidationError

from relab.core.validation import problems_of
from relab.load.arrivals import NS_PER_S
from relab.load.closed_loop import Throughput, measure_throughput
from relab.load.engine import Engine
from relab.load.errors import PlanError
from relab.load.hdr_log import write_hdr_log
from relab.load.histogram import LatencyHistogram
from relab.load.mix_files import built_in_mix, built_in_names, built_in_text, parse_mix, read_mix, single_request
from relab.load.models import Counts, Generator, LoadPlan, LoadResult, OnProgress, OnWindow
from relab.load.target import check_listening, find_target

__all__ = [
    "LatencyHistogram",
    "Throughput",
    "built_in_mix",
    "built_in_names",
    "built_in_text",
    "check_target",
    "find_throughput",
    "hdr_text",
    "make_plan",
    "parse_mix",
    "read_mix",
    "run",
    "run_load",
    "single_request",
]

LATE_MS = 5.0
RATE_ERROR_PCT = 1.0
_SPARE_DESCRIPTORS = 64


def make_plan(**fields: Any) -> LoadPlan:
    """Return a `LoadPlan` with these fields, after validating them.

    Raises:
        PlanError: a field is invalid; the error lists every invalid field.
    """
    try:
        return LoadPlan.model_validate(fields)
    except ValidationError as error:
        raise PlanError("The plan of the load is invalid.", problems=problems_of(error, root="plan")) from error


def check_target(plan: LoadPlan) -> None:
    """Check, before a load, that the target of a plan accepts connections.

    Raises:
        RemoteTargetError: the target is another machine, and the plan does not allow that.
        UnreachableTargetError: the target has no address or accepts no connections.
    """

    async def check() -> None:
        await check_listening(await find_target(plan.url, allow_remote=plan.allow_remote))

    asyncio.run(check())


def find_throughput(plan: LoadPlan, *, clients: int, seconds: float) -> Throughput:
    """Measure the throughput of closed-loop clients: each waits for an answer before it sends its next request.

    Args:
        plan: the target, and the mix (the templates of the requests, with weights); the plan's stages are ignored.
        clients: number of clients.
        seconds: how long to measure.

    Raises:
        RemoteTargetError: the target is another machine, and the plan does not allow that.
        UnreachableTargetError: the target's name has no address.
        MixError: a request template of the mix is invalid, or uses a value that the mix does not define.
    """
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(measure_throughput(plan, clients=clients, seconds=seconds))


def run_load(
    plan: LoadPlan,
    on_window: OnWindow | None = None,
    stop: Event | None = None,
    *,
    on_progress: OnProgress | None = None,
) -> LoadResult:
    """Run a load to its end in this thread, on a new event loop.

    If the target refuses connections, the requests count as failed sends.

    Args:
        plan: the plan of the load.
        on_window: is called with the results of each time window, in order, when all requests of the window have ended.
        stop: any thread may set this event to end the load early; the result covers the time until then.
        on_progress: is called with the current progress every `window_s` seconds (a field of the plan).

    Raises:
        RemoteTargetError: the target is another machine, and the plan does not allow that.
        UnreachableTargetError: the target's name has no address.
        MixError: a request template of the mix is invalid, or uses a value that the mix does not define.
    """
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(run(plan, on_window, stop, on_progress=on_progress))


async def run(
    plan: LoadPlan,
    on_window: OnWindow | None = None,
    stop: Event | None = None,
    *,
    on_progress: OnProgress | None = None,
) -> LoadResult:
    """Run a load to its end on the caller's event loop. Other tasks on this loop delay the requests.

    If the target refuses connections, the requests count as failed sends.

    Args:
        plan: the plan of the load.
        on_window: is called with the results of each time window, in order, when all requests of the window have ended.
        stop: any thread may set this event to end the load early; the result covers the time until then.
        on_progress: is called with the current progress every `window_s` seconds (a field of the plan).

    Raises:
        RemoteTargetError: the target is another machine, and the plan does not allow that.
        UnreachableTargetError: the target's name has no address.
        MixError: a request template of the mix is invalid, or uses a value that the mix does not define.
    """
    target = await find_target(plan.url, allow_remote=plan.allow_remote)
    _allow_descriptors(plan.connections or plan.max_in_flight)
    engine = Engine(plan, target, on_window=on_window, on_progress=on_progress, stop=stop)
    cpu_ns, clock_ns = time.thread_time_ns(), time.monotonic_ns()
    await engine.run()
    cpu_share = (time.thread_time_ns() - cpu_ns) / max(time.monotonic_ns() - clock_ns, 1)
    return _result(engine, cpu_share)


def hdr_text(result: LoadResult) -> str:
    """Return the latencies of a load in the log format of HdrHistogram, one line per time window."""
    text = io.StringIO()
    write_hdr_log(text, result.windows, started_at_us=result.started_at)
    return text.getvalue()


def _allow_descriptors(connections: int) -> None:
    """Raise this process's soft limit of open files, if it is too low for `connections`, at most to the hard limit."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = connections + _SPARE_DESCRIPTORS + 256
    if soft != resource.RLIM_INFINITY and soft < wanted:
        allowed = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        with contextlib.suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (allowed, hard))


def _result(engine: Engine, cpu_share: float) -> LoadResult:
    latency, good_latency = engine.recorder.latency()
    counts, warmup = engine.recorder.so_far(), engine.recorder.warmup()
    generator = _generator(engine, cpu_share)
    return LoadResult(
        started_at=engine.started_at_us,
        duration_s=engine.elapsed_ns / NS_PER_S,
        planned_s=engine.end_ns / NS_PER_S,
        stopped=engine.stopped,
        counts=counts,
        warmup=warmup,
        latency=latency,
        good_latency=good_latency,
        routes=engine.recorder.routes(),
        windows=tuple(engine.windows),
        generator=generator,
        problems=tuple(_problems(counts, generator, stopped=engine.stopped)),
    )


def _generator(engine: Engine, cpu_share: float) -> Generator:
    rate_per_s = rate_error_pct = None
    if engine.first_ns is not None and engine.last_ns[0] > engine.first_ns[0]:
        planned_ns = engine.last_ns[0] - engine.first_ns[0]
        taken_ns = max(engine.last_ns[1] - engine.first_ns[1], 1)
        rate_error_pct = 100.0 * (planned_ns / taken_ns - 1)
        rate_per_s = (engine.recorder.so_far().offered - 1) / taken_ns * NS_PER_S
    p50_ms, p99_ms = engine.lag.quantiles_ms((0.5, 0.99))
    return Generator(
        lag_p50_ms=p50_ms,
        lag_p99_ms=p99_ms,
        lag_max_ms=engine.lag.max_ms(),
        rate_per_s=rate_per_s,
        rate_error_pct=rate_error_pct,
        cpu_share=cpu_share,
    )


def _problems(counts: Counts, generator: Generator, *, stopped: bool) -> list[str]:
    problems: list[str] = []
    if stopped:
        problems.append("The load was stopped before its end.")
    if counts.offered and not counts.completed:
        reasons = ", ".join(f"{name} {number:,}" for name, number in counts.errors.items()) or "no answer in time"
        problems.append(f"No request was answered: {reasons}.")
    if counts.dropped:
        problems.append(
            f"{counts.dropped:,} requests were dropped, because as many as allowed had no outcome yet; "
            "the latencies leave them out."
        )
    if counts.errors.get("EMFILE"):
        problems.append("The generator ran out of file descriptors; its own failures are among the failed sends.")
    if generator.lag_p99_ms is not None and generator.lag_p99_ms > LATE_MS:
        problems.append(f"The generator was late by {generator.lag_p99_ms:.1f} ms at P99; latencies include that.")
    if generator.rate_error_pct is not None and abs(generator.rate_error_pct) > RATE_ERROR_PCT:
        problems.append(f"The rate was off by {generator.rate_error_pct:+.1f} %.")
    return problems
