"""A whole testbed with its clients over HTTP: users, the chaos server's client, and operators who repair."""

from __future__ import annotations

import itertools
import threading
import time
from collections import Counter, deque
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import httpx

from relab.testbed import service
from relab.testbed.supervisor.plan import STANDARD_ROWS
from rig.waiting import wait_until
from support.testbed.beds import Bed
from support.testbed.signals import NO_TLS, Sight

PAUSE_S = 0.05


@dataclass(frozen=True)
class Outcome:
    """One request: its end, route, status and duration.

    Attributes:
        status: 0 without a response.
        said: the reason of a failure, from the response or the exception.
    """

    at_s: float
    route: str
    status: int
    elapsed_ms: float
    said: str = ""

    @property
    def has_failed(self) -> bool:
        """Whether the request had a 5xx response or none."""
        return self.status == 0 or self.status >= 500


class Users:
    """Threads that send users' requests: each buys, reads and searches, one request at a time."""

    def __init__(self, url: str, *, count: int = 6, timeout_s: float = 3.0) -> None:
        self._url = url
        self._timeout_s = timeout_s
        self._ended = threading.Event()
        self._outcomes: deque[Outcome] = deque(maxlen=20_000)
        self._numbers = itertools.count(1)
        self._threads = [threading.Thread(target=self._use, args=(number,), daemon=True) for number in range(count)]

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        for thread in self._threads:
            thread.join()

    def recent(self, seconds: float, *, route: str | None = None) -> list[Outcome]:
        """Return the requests that ended within the last `seconds`."""
        since = time.monotonic() - seconds
        return [item for item in list(self._outcomes) if item.at_s >= since and route in {None, item.route}]

    def failed_share(self, seconds: float = 2.0, *, route: str | None = None) -> float:
        """Return the share of requests with a 5xx response or none; 1 without any response."""
        found = self.recent(seconds, route=route)
        return sum(item.has_failed for item in found) / len(found) if found else 1.0

    def failures(self, *, route: str | None = None, count: int = 40) -> Counter[str]:
        """Wait for `count` requests that begin from now on, and return the number of each failure."""
        mark = time.monotonic()

        def found() -> list[Outcome]:
            begun = [item for item in list(self._outcomes) if item.at_s - item.elapsed_ms / 1_000 >= mark]
            wanted = [item for item in begun if route in {None, item.route}]
            return wanted if len(wanted) >= count else []

        watched = wait_until(found, what=f"{count} requests")
        return Counter(f"{item.route} {item.status}: {item.said}" for item in watched if item.has_failed)

    def median_ms(self, seconds: float = 2.0, *, route: str | None = None) -> float:
        """Return the median duration of successful requests; 0 without any."""
        times = sorted(item.elapsed_ms for item in self.recent(seconds, route=route) if 0 < item.status < 500)
        return times[len(times) // 2] if times else 0.0

    def forget(self) -> None:
        """Forget all requests that have ended."""
        self._outcomes.clear()

    def _use(self, number: int) -> None:
        placed = ""
        while not self._ended.wait(PAUSE_S):
            # Each round uses a new connection, so that users reach every worker.
            with httpx.Client(base_url=self._url, timeout=self._timeout_s, trust_env=False, verify=NO_TLS) as client:
                turn = next(self._numbers)
                self._ask(client, "product", "GET", f"/api/v1/products/{turn % 2_000 + 1}")
                answer = self._ask(
                    client, "place_order", "POST", "/api/v1/orders",
                    json={"product_id": turn % 900 + 1, "quantity": 1, "customer": f"user-{number}"},
                )  # fmt: skip
                placed = answer.get("id", placed)
                if placed:
                    self._ask(client, "order", "GET", f"/api/v1/orders/{placed}")
                self._ask(client, "search", "GET", "/api/v1/search", params={"q": f"green lamp {turn}", "top_k": 5})

    def _ask(self, client: httpx.Client, route: str, method: str, path: str, **more: Any) -> dict[str, Any]:
        if self._ended.is_set():
            return {}
        began, status, found, said = time.monotonic(), 0, {}, ""
        try:
            response = client.request(method, path, **more)
            status, found = response.status_code, response.json()
            said = str(found.get("detail", "")) if status >= 500 else ""
        except (httpx.HTTPError, ValueError) as error:
            status, said = 0, repr(error)
        ended = time.monotonic()
        self._outcomes.append(Outcome(ended, route, status, (ended - began) * 1_000, said))
        return found


@dataclass
class Field:
    """A testbed with all of its servers and clients."""

    bed: Bed
    target: str
    chaos: httpx.Client
    actions: httpx.Client
    users: Users = field(init=False)

    def catalogue(self) -> dict[str, dict[str, Any]]:
        """Return the faults by name."""
        return {item["name"]: item for item in self.chaos.get("/api/v1/faults").json()["faults"]}

    def inject(self, fault: str, given: Mapping[str, Any] | None = None) -> str:
        """Inject a fault and return the injection's id."""
        answer = self.chaos.post(f"/api/v1/break/{fault}", json=dict(given or {}))
        assert answer.status_code == 201, answer.text
        return str(answer.json()["id"])

    def stop(self, fault: str, injection_id: str) -> dict[str, Any]:
        """Stop an injection and return it."""
        answer = self.chaos.post(f"/api/v1/break/{fault}/{injection_id}/stop")
        assert answer.status_code == 200, answer.text
        found: dict[str, Any] = answer.json()
        return found

    def injection(self, injection_id: str) -> dict[str, Any]:
        """Return the state of an injection."""
        found: dict[str, Any] = self.chaos.get(f"/api/v1/break/{injection_id}").json()
        return found

    def attempt(self, action: str, given: Mapping[str, Any] | None = None) -> httpx.Response:
        """Request an action after its cooldown, and return the response, even an error."""
        while True:
            answer = self.actions.post(f"/action/{action}", json=dict(given or {}))
            if answer.status_code != 429:
                return answer
            time.sleep(float(answer.headers["Retry-After"]))

    def do(self, action: str, given: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """Execute an action, which must succeed, and return the state after it."""
        answer = self.attempt(action, given)
        assert answer.status_code == 200, answer.text
        found: dict[str, Any] = answer.json()["record"]["after"]
        return found

    def look(self) -> Sight:
        """Return the observations of two moments."""
        return Sight.take(self.target, self.actions)

    def is_well(self) -> bool:
        """Return whether no request of users has failed in the last second."""
        return len(self.users.recent(1.0)) >= 5 and self.users.failed_share(1.0) == 0

    def reset(self) -> None:
        """Restore the initial state, and drop earlier requests of users."""
        self.bed.ask("POST", "/reset")
        wait_until(self.is_well, within_s=60, what="a service that is well again")
        self.users.forget()


@contextmanager
def a_field(home: Path, name: str = "f", **options: Any) -> Iterator[Field]:
    """Yield a new testbed with active users."""
    # The window of the target's metrics is short, so that tests need not wait half a minute for it.
    bed = Bed.start(home, name, rows=STANDARD_ROWS, target={"metrics_window_s": 6}, **options)
    addresses = service.status(home, name, hidden=True).state.addresses
    token = service.make_token(home, name, "test", ["admin", "read", "act"])
    assert addresses.chaos is not None
    assert addresses.actions is not None
    with (
        httpx.Client(base_url=addresses.chaos, timeout=60, trust_env=False) as chaos,
        httpx.Client(
            base_url=addresses.actions, timeout=60, trust_env=False, headers={"Authorization": f"Bearer {token}"}
        ) as actions,
        Users(addresses.target) as users,
    ):
        found = Field(bed, addresses.target, chaos, actions)
        found.users = users
        wait_until(found.is_well, what="a service that is well")
        yield found
