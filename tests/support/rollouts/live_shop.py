"""A service with its own traffic: each visit reads the flag by the OpenFeature SDK, and is counted by variant."""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from statistics import quantiles
from typing import Any
from urllib.parse import parse_qs, urlsplit

from prometheus_client import CollectorRegistry, Counter, Histogram

from relab.flags.evaluation import bucket
from relab.flags.models import ALL_BP
from support.flags.openfeature_sdk import USERS, Application

_PAUSE_S = 0.004
_REQUESTS_OF_A_VISIT = 20
_BUCKETS = [0.005 * step for step in range(1, 41)]


class LiveShop:
    """A service with constant traffic of its users.

    The service reports the latencies itself, so that a busy machine cannot change a verdict.

    Args:
        application: reads the flag.
        work: returns the latency in seconds and whether the request succeeds, by variant.
    """

    def __init__(self, application: Application, work: Callable[[str], tuple[float, bool]]) -> None:
        self.registry = CollectorRegistry()
        self._application = application
        self._work = work
        self._seconds = Histogram("request_seconds", "Latency.", ("version",), buckets=_BUCKETS, registry=self.registry)
        self._requests = Counter("requests", "Requests.", ("version", "code"), registry=self.registry)
        self._done: list[tuple[float, str, float, bool]] = []
        self._stop = threading.Event()
        # The two halves of the users alternate, so that both arms get equal traffic.
        first = [user for user in USERS if bucket(application.key, "", user) < ALL_BP // 2]
        second = [user for user in USERS if user not in first]
        self._users = itertools.cycle(itertools.chain.from_iterable(zip(first, second, strict=False)))

    def serve_next(self) -> None:
        """Serve the requests of the next user; the flag is evaluated once for all of them."""
        variant = self._application.variant(next(self._users))
        for _ in range(_REQUESTS_OF_A_VISIT):
            latency_s, is_good = self._work(variant)
            self._seconds.labels(variant).observe(latency_s)
            self._requests.labels(variant, "200" if is_good else "500").inc()
            self._done.append((time.time(), variant, latency_s, is_good))

    def figures(self, path: str) -> dict[str, Any]:
        """Return P95 in ms, requests and errors for the variant and period in the query of a path."""
        asked = {name: values[0] for name, values in parse_qs(urlsplit(path).query).items()}
        start, end = float(asked["from"]), float(asked["to"])
        found = [done for done in list(self._done) if done[1] == asked["arm"] and start <= done[0] < end]
        latencies = [1_000 * latency_s for _, _, latency_s, _ in found]
        return {
            "p95": quantiles(latencies, n=20)[-1] if len(latencies) > 1 else None,
            "requests": len(found),
            "errors": sum(not is_good for *_, is_good in found),
        }

    def run(self) -> None:
        """Serve users until `stop`."""
        while not self._stop.wait(_PAUSE_S):
            self.serve_next()

    def stop(self) -> None:
        """End `run`."""
        self._stop.set()


@contextmanager
def live_shop(application: Application, work: Callable[[str], tuple[float, bool]]) -> Iterator[LiveShop]:
    """Yield a shop that serves its users while the block runs."""
    shop = LiveShop(application, work)
    traffic = threading.Thread(target=shop.run)
    traffic.start()
    try:
        yield shop
    finally:
        shop.stop()
        traffic.join()
