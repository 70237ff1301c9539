"""Measure a service's throughput with a closed loop: clients wait for each answer before they send again.

Its latencies are too low if the service stalls: the clients then send nothing, so few requests see the stall.
"""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass

import aiohttp
from yarl import URL

from relab.load.mixes import LoadRequest, request_stream
from relab.load.models import LoadPlan
from relab.load.target import PinnedResolver, find_target


@dataclass(frozen=True, slots=True)
class Throughput:
    """The throughput of a service, measured by closed-loop clients (each waits for an answer before it sends again).

    Attributes:
        clients: number of the clients.
        good_per_s: good answers per second. An answer is good if its status is below 400, or is one that the request's
            template expects.
        p95_ms: 95th percentile of the times from a request to the last byte of its good answer; None without good
            answers.
    """

    clients: int
    good_per_s: float
    p95_ms: float | None


async def measure_throughput(plan: LoadPlan, *, clients: int, seconds: float) -> Throughput:
    """Measure the throughput of closed-loop clients: each waits for an answer before it sends its next request.

    Args:
        plan: the target, and the mix (the templates of the requests, with weights); the plan's stages are ignored.
        clients: number of clients.
        seconds: how long to send.

    Raises:
        RemoteTargetError: the target is another machine, and the plan does not allow that.
        UnreachableTargetError: the target's name has no address.
        MixError: a request template of the mix is invalid, or uses a value that the mix does not define.
    """
    target = await find_target(plan.url, allow_remote=plan.allow_remote)
    requests = request_stream(plan.mix, plan.seed)
    expected = [frozenset(template.expect) for template in plan.mix.requests]
    times_ms: list[float] = []
    async with aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=clients, resolver=PinnedResolver(target)),
        headers=plan.headers,
        timeout=aiohttp.ClientTimeout(total=plan.timeout_s),
        cookie_jar=aiohttp.DummyCookieJar(),
        auto_decompress=False,
    ) as session:
        began = time.perf_counter()
        until = began + seconds

        async def ask() -> None:
            while (sent := time.perf_counter()) < until:
                request = next(requests)
                status = await _ask(session, plan.url.rstrip("/"), request)
                if 0 < status < 400 or status in expected[request.route]:
                    times_ms.append((time.perf_counter() - sent) * 1_000)

        await asyncio.gather(*(ask() for _ in range(clients)))
        taken_s = time.perf_counter() - began
    times_ms.sort()
    p95_ms = times_ms[int(0.95 * (len(times_ms) - 1))] if times_ms else None
    return Throughput(clients, len(times_ms) / taken_s, p95_ms)


async def _ask(session: aiohttp.ClientSession, base: str, request: LoadRequest) -> int:
    """Send a request and return the status of its answer, or 0 if there is no answer."""
    url = URL(base + request.target, encoded=True)
    try:
        async with session.request(
            request.method, url, data=request.body, headers=request.headers, allow_redirects=False
        ) as answer:
            await answer.read()
            return answer.status
    except (aiohttp.ClientError, TimeoutError, OSError):
        # A client whose connection is refused at once must not busy-loop.
        await asyncio.sleep(0.01)
        return 0
