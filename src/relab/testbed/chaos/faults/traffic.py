"""Faults of the traffic: too many requests arrive, or clients retry too often. The target itself is healthy.

All requests order the same product, as in a sale. The target's orders of one product wait for each other, so that even
a small load overloads the target. The clients run in their own process.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Mapping
from contextlib import suppress
from random import Random
from typing import Any, Final, Protocol

import httpx
from pydantic import Field, JsonValue

from relab.load.models import Arrivals, IntegerValue, LoadPlan, Mix, RequestTemplate, Stage
from relab.load.service import find_throughput
from relab.testbed.actions.plant import PlantError
from relab.testbed.chaos.faults.base import Fault, Given, draw_between
from relab.testbed.chaos.ground import Ground
from relab.testbed.chaos.models import FaultParameters, Symptom
from relab.testbed.chaos.presence import Presence
from relab.testbed.errors import NotAnsweringError

_MEASURED_S: Final = 2.0
_MEASURED_CLIENTS: Final = 32
_MAX_DURATION_S: Final = 7 * 86_400.0
_STOP_TIMEOUT_S: Final = 5.0
_WINDOW_S: Final = 600.0
_MAX_IN_FLIGHT: Final = 4_000
_PATIENT_S: Final = 5.0
_STORM_SHARE: Final = 0.33
_TRIGGER_SHARE: Final = 4.0
"""The trigger's request rate as a multiple of the measured capacity. It is high, because on a busy machine the real
capacity may be several times the measured one a moment later."""
_BROWSER: Final = "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0"
_SDK: Final = "shop-mobile/7.2 okhttp/5.1.0"
_METRICS_TIMEOUT_S: Final = 2.0
_METRICS_WINDOW_S: Final = 5
_TURNED_AWAY: Final = 0.02
_SLOWER: Final = 3.0
_SLOW_MS: Final = 100.0
"""The target is overloaded if more than `_TURNED_AWAY` of the requests are shed or abandoned, or if P95 exceeds
`_SLOWER` times the usual P95 by more than `_SLOW_MS`."""
_PRODUCTS: Final = range(4_000, 5_000)
"""The range of product ids from which the seed draws the one product that all clients order."""


class Spike(FaultParameters):
    """Parameters of a traffic spike.

    Attributes:
        multiple: the request rate at full intensity, as a multiple of the target's measured capacity. It has no effect
            if `rate_per_s` is set.
        rate_per_s: the request rate at full intensity, in requests per second; None to use `multiple`.
    """

    multiple: float = Field(3.0, gt=0, le=20)
    rate_per_s: float | None = Field(None, gt=0, le=20_000)


class Storm(FaultParameters):
    """Parameters of a retry storm: clients that give up after a short time and retry soon.

    Attributes:
        clients: maximum number of concurrent requests, retries included.
        rate_per_s: number of new requests per second after the first period; None for a third of the target's capacity.
        patience_ms: time after which a client stops waiting for an answer, in milliseconds.
        retries: maximum number of retries of each request.
        retry_delay_ms: delay before a retry, in milliseconds.
        trigger_s: length of the first period, in seconds. In this period, new requests arrive so fast that they
            overload the target even without retries.
    """

    clients: int = Field(300, ge=10, le=5_000)
    rate_per_s: float | None = Field(None, gt=0, le=20_000)
    patience_ms: float = Field(200.0, ge=10, le=10_000)
    retries: int = Field(50, ge=1, le=1_000)
    retry_delay_ms: float = Field(150.0, ge=0, le=10_000)
    trigger_s: float = Field(3.0, gt=0, le=60)


class LoadClients(Protocol):
    """Clients that send a load of HTTP requests to the target."""

    def send(self, plan: LoadPlan | None) -> None:
        """Send the load that `plan` describes, in place of the current load; None stops the current load."""
        ...

    def close(self) -> None:
        """End all clients that send the load, and their requests."""
        ...


class ClientProcess:
    """Clients that send a load of HTTP requests. They run in a child process that does not outlive its parent."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[str] | None = None

    def send(self, plan: LoadPlan | None) -> None:
        """Send the load that `plan` describes, in place of the current load; None stops the current load.

        The first call starts the process of the clients.

        Raises:
            PlantError: the process of the clients has ended by itself.
        """
        if self._process is None:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "relab.load.clients"],
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                text=True,
            )
        line = self._process.stdin
        assert line is not None
        try:
            line.write("null\n" if plan is None else f"{plan.model_dump_json()}\n")
            line.flush()
        except BrokenPipeError as error:
            output = self._process.stderr.read() if self._process.stderr else ""
            raise PlantError(f"The clients have ended: {output[-500:] or self._process.poll()}") from error

    def close(self) -> None:
        """End the child process with the clients and all of their requests."""
        process = self._process
        if process is None:
            return
        # Closing flushes, which fails if the process has already ended.
        with suppress(BrokenPipeError):
            if process.stdin:
                process.stdin.close()
        try:
            process.wait(_STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        if process.stderr:
            process.stderr.close()


class TrafficSpike:
    """Injector that sends more requests than the target can serve. Clients do not retry rejected requests.

    Args:
        url: the address of the target.
        given: the parameters of the fault.
        peak_per_s: number of requests per second at full strength (level 1).
        sender: the clients that send the requests.
    """

    def __init__(self, url: str, given: Spike, *, peak_per_s: float, sender: LoadClients) -> None:
        self._url = url
        self._given = given
        self._peak_per_s = peak_per_s
        self._sender = sender

    def set_level(self, level: float) -> None:
        """Send requests at `level` times the peak rate from now on; at level 0 send no requests."""
        stages = (Stage(duration_s=_MAX_DURATION_S, rate_per_s=self._peak_per_s * level),)
        self._sender.send(_plan(self._url, self._given, stages, timeout_s=_PATIENT_S) if level > 0 else None)

    def end(self) -> None:
        """Stop sending requests."""
        self._sender.close()


class RetryStorm:
    """Injector of a retry storm: clients retry so often that their retries overload the target.

    Args:
        url: the address of the target.
        given: the parameters of the fault.
        capacity_per_s: number of requests that the target can serve per second.
        visitors_per_s: number of new requests per second after the first period, at full strength (level 1).
        sender: the clients that send the requests.
    """

    def __init__(
        self, url: str, given: Storm, *, capacity_per_s: float, visitors_per_s: float, sender: LoadClients
    ) -> None:
        self._url = url
        self._given = given
        self._capacity_per_s = capacity_per_s
        self._visitors_per_s = visitors_per_s
        self._sender = sender

    def set_level(self, level: float) -> None:
        """Start the load, or stop it if `level` is 0. `level` (0 to 1) scales the rates and the number of clients.

        For the first `trigger_s` seconds, new requests arrive so fast that they overload the target. Then new requests
        arrive more slowly, and retries keep the target overloaded.
        """
        given = self._given
        trigger_per_s = max(self._capacity_per_s * _TRIGGER_SHARE, self._visitors_per_s)
        stages = (
            Stage(duration_s=given.trigger_s, rate_per_s=trigger_per_s * level),
            Stage(duration_s=_MAX_DURATION_S, rate_per_s=self._visitors_per_s * level),
        )
        plan = _plan(self._url, given, stages, timeout_s=given.patience_ms / 1_000, agent=_SDK)
        again = {
            "retries": given.retries,
            "retry_delay_s": given.retry_delay_ms / 1_000,
            "max_in_flight": max(round(given.clients * level), 1),
        }
        self._sender.send(plan.model_copy(update=again) if level > 0 else None)

    def end(self) -> None:
        """Stop sending requests."""
        self._sender.close()


def _plan(
    url: str, given: FaultParameters, stages: tuple[Stage, ...], *, timeout_s: float, agent: str = _BROWSER
) -> LoadPlan:
    return LoadPlan(
        url=url,
        mix=_orders(given.seed),
        stages=stages,
        arrivals=Arrivals.POISSON,
        seed=given.seed,
        window_s=_WINDOW_S,
        timeout_s=timeout_s,
        max_in_flight=_MAX_IN_FLIGHT,
        headers={"User-Agent": agent},
    )


def _orders(seed: int) -> Mix:
    product_id = _PRODUCTS[seed % len(_PRODUCTS)]
    body: dict[str, JsonValue] = {"product_id": product_id, "quantity": 1, "customer": "customer-{number}"}
    order = RequestTemplate(name="order", method="POST", path="/api/v1/orders", body=body)
    return Mix(name="sale", values={"number": IntegerValue(kind="integer", low=1, high=100_000)}, requests=(order,))


def measure_capacity(url: str, given: FaultParameters) -> float:
    """Measure for 2 s how many orders per second the target serves, and return the number.

    Args:
        url: the address of the target.
        given: the parameters of the fault; the seed chooses the product to order.

    Raises:
        PlantError: the target serves no order.
    """
    plan = _plan(url, given, (Stage(duration_s=1, rate_per_s=1),), timeout_s=_PATIENT_S)
    found = find_throughput(plan, clients=_MEASURED_CLIENTS, seconds=_MEASURED_S)
    if found.good_per_s == 0:
        raise PlantError("The target accepts no order, so more traffic would have no effect.")
    return found.good_per_s


class Overload(Presence):
    """Tests whether an injected overload of the target is still present.

    The caller must create this object before the injection. The overload counts as present from the beginning, until
    one of these is true:
    - The flags of the target's flow control differ from those before the injection.
    - The target was overloaded in an earlier call of `is_there`, and is no longer overloaded now (see `_is_overrun`).

    Args:
        ground: access to the testbed's processes, database, cache, network and flags.
    """

    def __init__(self, ground: Ground) -> None:
        super().__init__(self._is_overloaded)
        self._ground = ground
        self._has_come = False
        self._control_before = self._control()
        self._usual_p95_ms = _figures(ground)["p95_ms"]

    def _is_overloaded(self) -> bool:
        if self._control() != self._control_before:
            return False
        is_overloaded = _is_overrun(_figures(self._ground), self._usual_p95_ms)
        self._has_come = self._has_come or is_overloaded
        # The traffic was already started, but the target's metrics show it only after a moment.
        return is_overloaded or not self._has_come

    def _control(self) -> dict[str, Any]:
        return dict(self._ground.plant.flags()["control"])


def _figures(ground: Ground) -> Mapping[str, float]:
    """Return the target's metrics of the last seconds: `requests`, `shed`, `abandoned` and `p95_ms`.

    `shed` counts requests that flow control rejected. `abandoned` counts requests whose client left before the answer.
    `ground` gives access to the testbed's components.

    Raises:
        NotAnsweringError: the target does not return its metrics.
    """
    address = f"{ground.target_url}/api/v1/metrics"
    try:
        answer = httpx.get(address, params={"window_s": _METRICS_WINDOW_S}, timeout=_METRICS_TIMEOUT_S, trust_env=False)
        found = answer.raise_for_status().json()
        return {name: float(found[name]) for name in ("requests", "shed", "abandoned", "p95_ms")}
    except (httpx.HTTPError, ValueError, KeyError, TypeError) as error:
        raise NotAnsweringError("The target does not return its metrics.") from error


def _is_overrun(figures: Mapping[str, float], usual_p95_ms: float) -> bool:
    """Return whether the target is overloaded.

    It is overloaded if more than 2% of the requests were rejected or abandoned. It is also overloaded if the P95 of the
    response times is more than 100 ms above three times its usual value.

    Args:
        figures: the target's metrics of the last seconds: `requests`, `shed`, `abandoned` and `p95_ms`.
        usual_p95_ms: the P95 of the response times before the fault, in milliseconds.
    """
    turned_away = figures["shed"] + figures["abandoned"]
    is_slow = figures["p95_ms"] > _SLOWER * usual_p95_ms + _SLOW_MS
    return is_slow or turned_away > _TURNED_AWAY * max(figures["requests"], 1.0)


class TrafficFault(Fault[Given]):
    """Base of the faults in which the target receives too many requests. The repair is to reject some requests."""

    repairs = ("set-flow-control",)
    harms = ("restart-target", "restart-database", "restart-cache")
    takes_the_machine = True

    def presence(self, ground: Ground, _given: Given) -> Presence:
        """Return an object that tests whether this fault's overload is still present.

        The overload has ended if the target was overloaded and has recovered. It also counts as ended if the flags of
        the target's flow control were changed. `ground` gives access to the testbed's components.
        """
        return Overload(ground)


class TrafficSpikeFault(TrafficFault[Spike]):
    """The fault `traffic_spike`: users send far more orders than the target can serve."""

    name = "traffic_spike"
    title = "Many more requests arrive than the target can serve"
    cause = "traffic_spike"
    parameters = Spike
    symptom = Symptom(
        "orders are slow, and requests of all routes are refused with 503",
        "the request rate is a multiple of the usual rate, and most requests are orders; sessions wait for each other "
        "briefly, and no single session blocks the others",
        ("retry_storm", "db_lock", "db_pool"),
    )
    can_vary = True
    is_repaired_by_refusals = True

    def injector(self, ground: Ground, given: Spike) -> TrafficSpike:
        """Return an injector that sends more requests than the target can serve.

        The rate is `given.rate_per_s`. If this is None, the target's capacity is measured first, and the rate is
        `given.multiple` times the capacity. `ground` gives access to the testbed's components.
        """
        peak_per_s = given.rate_per_s or measure_capacity(ground.target_url, given) * given.multiple
        return TrafficSpike(ground.target_url, given, peak_per_s=peak_per_s, sender=ClientProcess())

    def draw(self, rng: Random) -> dict[str, Any]:
        """Return a random `multiple`: the request rate as a multiple of the target's capacity."""
        return {"multiple": draw_between(rng, 2.0, 4.0)}


class RetryStormFault(TrafficFault[Storm]):
    """The fault `retry_storm`: clients retry so often that the target stays overloaded."""

    name = "retry_storm"
    title = "Clients retry faster than the target answers"
    cause = "retry_storm"
    parameters = Storm
    symptom = Symptom(
        "orders are slow, and requests of all routes are refused with 503, until an operator intervenes",
        "the same few visitors retry again and again: the request rate is high, and falls at once when admitted requests "
        "are answered fast",
        ("traffic_spike", "db_lock", "db_pool"),
    )

    def injector(self, ground: Ground, given: Storm) -> RetryStorm:
        """Measure the target's capacity, and return an injector of a retry storm.

        The capacity determines the request rates. `given.rate_per_s` overrides the rate after the first period.
        `ground` gives access to the testbed's components; `given` has the parameters of the fault.
        """
        capacity_per_s = measure_capacity(ground.target_url, given)
        return RetryStorm(
            ground.target_url,
            given,
            capacity_per_s=capacity_per_s,
            visitors_per_s=given.rate_per_s or capacity_per_s * _STORM_SHARE,
            sender=ClientProcess(),
        )

    def draw(self, rng: Random) -> dict[str, Any]:
        """Return random `trigger_s` (seconds of initial overload) and `clients` (maximum of concurrent requests)."""
        return {"trigger_s": round(rng.uniform(2, 4), 2), "clients": rng.randrange(250, 350)}
