"""How much a service can take: clients that wait for their answer before they ask again. No measure of latency."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass

import aiohttp
from yarl import URL

from relab.load.mixes import Request, request_stream
from relab.load.models import LoadPlan
from relab.load.target import PinnedResolver, find_target


@dataclass(frozen=True, slots=True)
class Throughput:
    """What so many waiting clients got.

    Attributes:
        good_per_s: answers below 400, or expected ones, per second.
        p95_ms: of these, from sending to the last byte.
    """

    clients: int
    good_per_s: float
    p95_ms: float | None


async def measure_throughput(plan: LoadPlan, *, clients: int, seconds: float) -> Throughput:
    """Let clients ask for the requests of a plan, each as soon as it has its answer; the plan's stages do not count.

    Raises:
        RemoteTargetError, UnreachableTargetError: as for a load.
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


async def _ask(session: aiohttp.ClientSession, base: str, request: Request) -> int:
    """Return the status of an answer, 0 if there was none."""
    url = URL(base + request.target, encoded=True)
    try:
        async with session.request(
            request.method, url, data=request.body, headers=request.headers, allow_redirects=False
        ) as answer:
            await answer.read()
            return answer.status
    except (aiohttp.ClientError, TimeoutError, OSError):
        # A client that is refused at once must not spin.
        await asyncio.sleep(0.01)
        return 0
