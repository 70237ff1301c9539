"""Faults of traffic, without a defect: more requests than the target can serve, and clients that retry when refused.

All requests order the same product, as in a sale. Such orders wait for each other, so a small number of them exceeds
the target's capacity, and the clients need few resources of the machine. The clients run in their own process.
"""

from __future__ import annotations

import subprocess
import sys
from contextlib import suppress
from typing import Final, Protocol

from pydantic import Field, JsonValue

from relab.load.models import Arrivals, IntegerValue, LoadPlan, Mix, RequestTemplate, Stage
from relab.load.service import find_throughput
from relab.testbed.actions.plant import PlantError
from relab.testbed.chaos.ground import Ground
from relab.testbed.chaos.manager import Make
from relab.testbed.chaos.models import Fault, Kind, Parameters, Symptom

_MEASURED_S: Final = 2.0
_MEASURED_CLIENTS: Final = 32
_LONGEST_S: Final = 7 * 86_400.0
_GOES_WITHIN_S: Final = 5.0
_WINDOW_S: Final = 600.0
_MOST_IN_FLIGHT: Final = 4_000
_PATIENT_S: Final = 5.0
_STORM_SHARE: Final = 0.33
_TRIGGER_SHARE: Final = 4.0
"""Multiple of the measured capacity; on a busy machine the real one may be several times as high a moment later."""
_BROWSER: Final = "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0"
_SDK: Final = "shop-mobile/7.2 okhttp/5.1.0"
_PRODUCTS: Final = range(4_000, 5_000)
"""Ids of products, one of which all clients order."""


class Spike(Parameters):
    """How many requests come at full intensity: so many a second, or so many times what the target can answer now."""

    multiple: float = Field(3.0, gt=0, le=20)
    rate_per_s: float | None = Field(None, gt=0, le=20_000)


class Storm(Parameters):
    """Clients that give up after `patience_ms` and ask again soon, `retries` times.

    Attributes:
        clients: how many may ask at the same time; this bounds how often they ask together.
        rate_per_s: how many come a second, each of whom wants one answer; None is a third of what the target can
            answer now, which is no load to speak of.
        trigger_s: how long more come than the target can answer; what follows they do themselves.
    """

    clients: int = Field(300, ge=10, le=5_000)
    rate_per_s: float | None = Field(None, gt=0, le=20_000)
    patience_ms: float = Field(200.0, ge=10, le=10_000)
    retries: int = Field(50, ge=1, le=1_000)
    retry_delay_ms: float = Field(150.0, ge=0, le=10_000)
    trigger_s: float = Field(3.0, gt=0, le=60)


class Sender(Protocol):
    """Clients that send a load."""

    def send(self, plan: LoadPlan | None) -> None:
        """Replace the current load; None stops it."""
        ...

    def close(self) -> None:
        """End the clients."""
        ...


class ClientProcess:
    """Clients in a process that ends however this one ends, because it reads from a pipe of this process.

    A parent-death signal would come too early: the kernel sends it when the thread ends that created the process.
    """

    def __init__(self) -> None:
        self._process: subprocess.Popen[str] | None = None

    def send(self, plan: LoadPlan | None) -> None:
        """Replace the current load; None stops it.

        Raises:
            PlantError: the client process has ended by itself.
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
            told = self._process.stderr.read() if self._process.stderr else ""
            raise PlantError(f"The clients have ended: {told[-500:] or self._process.poll()}") from error

    def close(self) -> None:
        """End the process."""
        process = self._process
        if process is None:
            return
        # Closing flushes, which fails if the process has already ended.
        with suppress(BrokenPipeError):
            if process.stdin:
                process.stdin.close()
        try:
            process.wait(_GOES_WITHIN_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        if process.stderr:
            process.stderr.close()


class TrafficSpike:
    """More requests than the target can serve; refused clients do not retry."""

    def __init__(self, url: str, given: Spike, *, peak_per_s: float, sender: Sender) -> None:
        self._url = url
        self._given = given
        self._peak_per_s = peak_per_s
        self._sender = sender

    def set_level(self, level: float) -> None:
        """Send this share of the peak rate."""
        stages = (Stage(duration_s=_LONGEST_S, rate_per_s=self._peak_per_s * level),)
        self._sender.send(_plan(self._url, self._given, stages, timeout_s=_PATIENT_S) if level > 0 else None)

    def end(self) -> None:
        """Stop all requests."""
        self._sender.close()


class RetryStorm:
    """A small number of visitors whose load would be low if each did not retry what takes too long."""

    def __init__(self, url: str, given: Storm, *, capacity_per_s: float, visitors_per_s: float, sender: Sender) -> None:
        self._url = url
        self._given = given
        self._capacity_per_s = capacity_per_s
        self._visitors_per_s = visitors_per_s
        self._sender = sender

    def set_level(self, level: float) -> None:
        """Start the load; it is too high at first, so that the clients begin to retry."""
        given = self._given
        trigger_per_s = max(self._capacity_per_s * _TRIGGER_SHARE, self._visitors_per_s)
        stages = (
            Stage(duration_s=given.trigger_s, rate_per_s=trigger_per_s * level),
            Stage(duration_s=_LONGEST_S, rate_per_s=self._visitors_per_s * level),
        )
        plan = _plan(self._url, given, stages, timeout_s=given.patience_ms / 1_000, agent=_SDK)
        again = {
            "retries": given.retries,
            "retry_delay_s": given.retry_delay_ms / 1_000,
            "max_in_flight": max(round(given.clients * level), 1),
        }
        self._sender.send(plan.model_copy(update=again) if level > 0 else None)

    def end(self) -> None:
        """Stop all requests."""
        self._sender.close()


def _plan(
    url: str, given: Parameters, stages: tuple[Stage, ...], *, timeout_s: float, agent: str = _BROWSER
) -> LoadPlan:
    return LoadPlan(
        url=url,
        mix=_orders(given.seed),
        stages=stages,
        arrivals=Arrivals.POISSON,
        seed=given.seed,
        window_s=_WINDOW_S,
        timeout_s=timeout_s,
        max_in_flight=_MOST_IN_FLIGHT,
        headers={"User-Agent": agent},
    )


def _orders(seed: int) -> Mix:
    product_id = _PRODUCTS[seed % len(_PRODUCTS)]
    body: dict[str, JsonValue] = {"product_id": product_id, "quantity": 1, "customer": "customer-{number}"}
    order = RequestTemplate(name="order", method="POST", path="/api/v1/orders", body=body)
    return Mix(name="sale", values={"number": IntegerValue(kind="integer", low=1, high=100_000)}, requests=(order,))


def measure_capacity(url: str, given: Parameters) -> float:
    """Return how many of the clients' requests the target can serve per second.

    Raises:
        PlantError: it serves none.
    """
    plan = _plan(url, given, (Stage(duration_s=1, rate_per_s=1),), timeout_s=_PATIENT_S)
    found = find_throughput(plan, clients=_MEASURED_CLIENTS, seconds=_MEASURED_S)
    if found.good_per_s == 0:
        raise PlantError("The target takes no order; traffic would show nothing.")
    return found.good_per_s


_SPIKE: Final = Fault(
    "traffic_spike", "Many more requests come than the target can answer", Kind.FAULT, Spike,
    Symptom(
        "orders are slow, and requests of all routes are refused with 503",
        "requests a second are a multiple of what is usual, most of them orders; sessions wait for each other, each "
        "for a moment, and none holds the others up",
        ("retry_storm", "db_lock", "db_pool"),
    ),
    repairs=("set-flow-control",),
    harms=("restart-target", "restart-database", "restart-cache"),
    can_vary=True,
)  # fmt: skip
_STORM: Final = Fault(
    "retry_storm", "Clients ask again faster than they are answered", Kind.FAULT, Storm,
    Symptom(
        "orders are slow, and requests of all routes are refused with 503, for as long as nothing is done",
        "the same few visitors come again and again: requests a second are many, and fall at once when those that are "
        "taken on are answered fast",
        ("traffic_spike", "db_lock", "db_pool"),
    ),
    repairs=("set-flow-control",),
    harms=("restart-target", "restart-database", "restart-cache"),
)  # fmt: skip


def faults(ground: Ground) -> dict[str, tuple[Fault, Make]]:
    """Return the faults of traffic."""

    def spike(given: Parameters) -> TrafficSpike:
        assert isinstance(given, Spike)
        peak_per_s = given.rate_per_s or measure_capacity(ground.target_url, given) * given.multiple
        return TrafficSpike(ground.target_url, given, peak_per_s=peak_per_s, sender=ClientProcess())

    def storm(given: Parameters) -> RetryStorm:
        assert isinstance(given, Storm)
        capacity_per_s = measure_capacity(ground.target_url, given)
        visitors_per_s = given.rate_per_s or capacity_per_s * _STORM_SHARE
        return RetryStorm(
            ground.target_url,
            given,
            capacity_per_s=capacity_per_s,
            visitors_per_s=visitors_per_s,
            sender=ClientProcess(),
        )

    found: list[tuple[Fault, Make]] = [(_SPIKE, spike), (_STORM, storm)]
    return {fault.name: (fault, make) for fault, make in found}
