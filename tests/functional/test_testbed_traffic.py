"""Traffic that overloads the real target: a restart does not end the overload, and a lower limit does."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator

import httpx
import psutil
import pytest

from relab.testbed import service
from rig.waiting import wait_until
from support.testbed.beds import bed_home
from support.testbed.fault_field import Field, a_field

# The limits are long, because the machine may be busy with other tests.
pytestmark = [pytest.mark.full, pytest.mark.timeout(900)]
TIMEOUT_S = 120.0
CALM_SHARE = 0.02
"""The share of failed requests below which an overload is over, as for the presence of the fault itself.

On a busy machine flow control may reject a single request of many when all of them wait for the processor.
"""


@pytest.fixture(scope="module")
def field() -> Iterator[Field]:
    with bed_home() as home, a_field(home) as found:
        yield found


@pytest.fixture(autouse=True)
def well(field: Field) -> Iterator[None]:
    yield
    # A reset does not restart the chaos server, so its active injections are stopped first.
    for item in field.chaos.get("/api/v1/break").json()["injections"]:
        if item["phase"] == "active":
            field.stop(item["fault"], item["injection_id"])
    field.reset()
    wait_until(field.is_well, what="a service that is well again", within_s=TIMEOUT_S)


def is_refusing(field: Field) -> bool:
    return len(field.users.recent(2.0)) > 5 and field.users.failed_share(2.0) >= CALM_SHARE


def is_calm(field: Field) -> bool:
    return len(field.users.recent(4.0)) > 20 and field.users.failed_share(4.0) < CALM_SHARE


def shed_requests(field: Field) -> int:
    """Return how many requests flow control rejected in the window of the target's metrics."""
    response = httpx.get(f"{field.target}/api/v1/metrics", timeout=10, trust_env=False)
    return int(response.json()["shed"]) if response.status_code == httpx.codes.OK else 0


def has_begun_anew(field: Field) -> bool:
    try:
        return field.chaos.get("/api/v1/break").json() == {"injections": []}
    except httpx.TransportError:
        return False


def chaos_children(field: Field) -> list[psutil.Process]:
    status = service.status(field.bed.layout.home, field.bed.layout.name, hidden=True)
    pid = next(item.pid for item in status.components if item.name == "chaos")
    found: list[psutil.Process] = psutil.Process(pid).children()
    return found


@pytest.mark.parametrize("wrong", ["restart-target", "restart-database"])
def test_retry_storm_outlives_its_trigger_and_a_restart_until_the_limit_is_lowered(field: Field, wrong: str) -> None:
    field.inject("retry_storm", {"trigger_s": 2.0})
    wait_until(lambda: is_refusing(field), what="refusals", within_s=TIMEOUT_S)

    assert field.attempt(wrong).status_code == 200
    # Each check covers two seconds: the storm is back after the restart, and persists.
    for _ in range(2):
        wait_until(lambda: is_refusing(field), what=f"the storm after {wrong}", within_s=TIMEOUT_S)

    field.do("set-flow-control", {"max_concurrency": 4})
    wait_until(lambda: is_calm(field), what="the end of the storm", within_s=TIMEOUT_S)
    # The storm does not return with the former limit, although its clients still run.
    field.do("set-flow-control", {"max_concurrency": 32})
    wait_until(lambda: is_calm(field), what="calm with the limit as it was", within_s=TIMEOUT_S)
    assert chaos_children(field)


def test_lower_limit_keeps_admitted_orders_fast_until_the_traffic_spike_ends(field: Field) -> None:
    injection = field.inject("traffic_spike", {"multiple": 3.0})
    wait_until(lambda: is_refusing(field), what="refusals", within_s=TIMEOUT_S)
    # The first failures can be late responses of a slow machine; flow control rejects requests soon afterwards.
    wait_until(lambda: shed_requests(field) > 0, what="requests that flow control rejects", within_s=TIMEOUT_S)

    field.do("set-flow-control", {"max_concurrency": 4})
    wait_until(
        lambda: is_refusing(field) and 0 < field.users.median_ms(3.0, route="place_order") < 150,
        what="orders in time while others are refused", within_s=TIMEOUT_S,
    )  # fmt: skip

    field.stop("traffic_spike", injection)
    wait_until(lambda: is_calm(field), what="calm when they have gone", within_s=TIMEOUT_S)
    assert not chaos_children(field)


def test_clients_end_with_the_chaos_server_and_appear_in_no_log(field: Field) -> None:
    field.inject("traffic_spike", {"rate_per_s": 50})
    (child,) = chaos_children(field)
    words = " ".join(child.cmdline()).lower()
    assert not any(word in words for word in ("chaos", "inject", "fault", "spike", "storm"))
    logs = httpx.get(f"{field.target}/api/v1/logs", params={"limit": 1_000}, timeout=10, trust_env=False).text.lower()
    assert not any(word in logs for word in ("chaos", "inject", "fault", "spike", "storm", "aiohttp"))

    os.kill(child.ppid(), signal.SIGKILL)

    wait_until(lambda: not child.is_running() or child.status() == psutil.STATUS_ZOMBIE, what="their end")
    wait_until(lambda: has_begun_anew(field), what="the chaos server", within_s=TIMEOUT_S)
