"""Faults against the real target: what is broken shows, a wrong repair does not mend it, a proper one does, for good."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import httpx
import pytest

from relab.core.clock import SystemClock
from relab.testbed.actions.audit import AuditLog
from relab.testbed.actions.guard import Guard, Limits
from relab.testbed.actions.models import Status
from relab.testbed.actions.operations.catalogue import all_operations
from relab.testbed.actions.plant import Plant
from relab.testbed.actions.service import ActionService
from relab.testbed.chaos.faults.catalogue import all_faults
from relab.testbed.chaos.ground import Ground
from relab.testbed.chaos.manager import ChaosManager
from relab.testbed.links.client import LinksClient
from relab.testbed.supervisor.plan import STANDARD_ROWS
from support.testbeds import Bed, bed_home
from support.waiting import wait_until

ANY_NUMBER = Limits(most_in_window=10_000, most_on_target=10_000, cooldown_s=0)


@dataclass
class Field:
    """A testbed with the real target, who breaks it and who mends it."""

    bed: Bed
    shop: httpx.Client
    chaos: ChaosManager
    actions: ActionService

    def do(self, name: str, **given: Any) -> dict[str, Any]:
        record = self.actions.perform(name, given, actor="test").record
        assert record is not None
        assert record.status is Status.SUCCEEDED, record.error
        return record.after

    def get(self, path: str) -> int:
        try:
            return self.shop.get(path).status_code
        except httpx.HTTPError:
            return 0

    def order(self) -> int:
        try:
            wanted = {"product_id": 3, "quantity": 1, "customer": "c"}
            return self.shop.post("/api/v1/orders", json=wanted).status_code
        except httpx.HTTPError:
            return 0

    def is_served(self) -> bool:
        """Whether a few requests in a row are answered as they should be, by whichever worker."""
        return all(self.get(f"/api/v1/products/{number}") == 200 and self.order() == 201 for number in range(1, 5))

    def is_broken(self) -> bool:
        return not self.is_served()


@pytest.fixture(scope="module")
def field(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Field]:
    with bed_home() as home:
        bed = Bed.start(home, "f", rows=STANDARD_ROWS)
        target = bed.status().state.addresses.target
        plant = Plant(bed.layout.control_socket, target)
        audit = AuditLog(tmp_path_factory.mktemp("audit") / "actions.jsonl")
        ground = Ground(plant, LinksClient(bed.layout.links_socket), bed.layout.private, target)
        chaos = ChaosManager(all_faults(ground), {}, SystemClock())
        actions = ActionService(all_operations(plant), audit, Guard(audit, ANY_NUMBER), SystemClock())
        with httpx.Client(base_url=target, timeout=10, trust_env=False) as shop:
            yield Field(bed, shop, chaos, actions)
        chaos.close()
        audit.close()
        plant.close()


@pytest.fixture(autouse=True)
def well(field: Field) -> Iterator[None]:
    """Every test begins with a testbed as it is at its beginning."""
    yield
    field.chaos.stop_all()
    field.bed.ask("POST", "/reset")
    wait_until(field.is_served, what="a service that is well again")


CASES = [
    # fault, its parameters, a plausible action that does not mend it, one that does and its parameters
    pytest.param("db_pool", {}, "restart-cache", ("restart-target", {}), id="db_pool"),
    pytest.param("db_lock", {"table": "stock"}, "restart-cache", ("end-blocking-sessions", {"min_wait_s": 0}), id="db_lock", marks=pytest.mark.full),
    pytest.param("db_down", {}, "restart-cache", ("restart-database", {}), id="db_down", marks=pytest.mark.full),
    pytest.param("database_refuse", {}, "restart-database", ("restart-links", {}), id="database_refuse", marks=pytest.mark.full),
    pytest.param(
        "database_blackhole", {}, "restart-target", ("use-path", {"dependency": "database"}),
        id="database_blackhole", marks=pytest.mark.full,
    ),
    pytest.param(
        "database_reset", {"after_ms": 0}, "restart-target", ("restart-links", {}), id="database_reset",
        marks=pytest.mark.full,
    ),
]  # fmt: skip


@pytest.mark.parametrize(("fault", "given", "wrong", "right"), CASES)
def test_a_wrong_repair_does_not_mend_and_a_proper_one_does(
    field: Field, fault: str, given: dict[str, Any], wrong: str, right: tuple[str, dict[str, Any]]
) -> None:
    assert field.is_served()
    injection = field.chaos.inject(fault, given)
    wait_until(field.is_broken, what=f"{fault} to show")

    # What it was asked to do is done or is refused; neither mends anything.
    field.actions.perform(wrong, {}, actor="test")
    assert wait_until(field.is_broken, what=f"{fault} to go on showing after {wrong}")

    field.do(right[0], **right[1])
    wait_until(field.is_served, what=f"the service after {right[0]}")
    # For good: the cause is not there any more, though nobody told the injector.
    assert field.chaos.get(injection.injection_id).phase == "active"
    assert field.is_served()


@pytest.mark.full
def test_a_dropped_index_is_told_and_made_anew(field: Field) -> None:
    field.chaos.inject("db_slow_query", {})
    missing = field.shop.get("/api/v1/diagnostics/database").json()
    assert "orders_customer_idx" in str(missing)

    assert set(field.do("recreate-indexes")["made"]) >= {"orders_number_idx", "orders_customer_idx"}
    with pytest.raises(Exception, match="No index is missing"):
        field.do("recreate-indexes")


@pytest.mark.parametrize(
    ("fault", "right"),
    [pytest.param("cache_full", ("set-cache-memory", {}), marks=pytest.mark.full), ("cache_auth", ("rotate-credential", {"dependency": "cache"})),
     pytest.param("cache_down", ("restart-cache", {}), marks=pytest.mark.full)],
)  # fmt: skip
def test_without_its_cache_the_shop_goes_on_and_says_so(
    field: Field, fault: str, right: tuple[str, dict[str, Any]]
) -> None:
    field.chaos.inject(fault, {})
    unread = itertools.count(1_000)

    def is_told() -> bool:
        # Pages that nobody has read before: those that are cached are not written.
        assert field.get(f"/api/v1/products/{next(unread)}") == 200
        lines = field.shop.get("/api/v1/logs", params={"limit": 1_000}).json()
        return "cache" in str(lines).lower() and any(
            word in str(lines) for word in ("maxmemory", "NOAUTH", "onnection", "refused")
        )

    wait_until(is_told, what=f"{fault} in the log")
    assert field.is_served()
    field.do(right[0], **right[1])
    wait_until(field.is_served, what=f"the service after {right[0]}")


@pytest.mark.full
def test_an_action_on_settings_is_taken_back(field: Field) -> None:
    record = field.actions.perform("use-path", {"dependency": "database"}, actor="test").record
    assert record is not None
    assert record.status is Status.SUCCEEDED, record.error
    wait_until(field.is_served, what="the service by the other path")

    field.actions.undo(record.record_id, actor="test")
    wait_until(field.is_served, what="the service by the first path")
    assert field.actions.audit.get(record.record_id).status is Status.UNDONE
