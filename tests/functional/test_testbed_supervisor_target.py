"""`lab testbed` with the real target: it starts, breaks, is reset, and stops."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from relab.testbed.layout import Layout
from rig.waiting import wait_until
from support.lab.cli import Lab
from support.testbed.beds import Bed, bed_home, free_base, living, processes_of


@pytest.fixture
def home() -> Iterator[Path]:
    """A home without testbeds."""
    with bed_home() as made:
        yield made


@pytest.mark.full
def test_reset_repairs_the_real_target_and_down_ends_every_process(home: Path) -> None:
    lab, bed = Lab(home, {}), Bed(Layout.of(home, "shop"))
    base = free_base()
    # On a busy machine the start may take longer than the default of 10 s.
    up = lab.json("testbed", "up", "--name", "shop", "--port-base", str(base), "--within", "60")
    everything = processes_of(bed.layout)
    before = bed.dump()
    with httpx.Client(base_url=up["state"]["addresses"]["target"], trust_env=False, verify=False) as shop:
        assert up["state"]["addresses"]["target"] == f"http://127.0.0.1:{base}"
        health = shop.get("/api/v1/health").json()
        assert health["health_status"] == "healthy"
        assert [item["state"] for item in health["workers"]] == ["running", "running"]
        ordered = shop.post("/api/v1/orders", json={"product_id": 1, "quantity": 2, "customer": "c"})
        assert ordered.status_code == 201
        assert bed.dump() != before
        _assert_supervisor_is_seen(shop)
        bed.ask("POST", "/components/database/stop")
        wait_until(lambda: shop.get("/api/v1/products/2").status_code == 503, what="the database's absence")

        reset = lab.json("testbed", "reset", "--name", "shop")

        assert bed.dump() == before
        assert {item["state"] for item in reset["components"] if item["name"] != "report-job"} == {"running"}
        assert shop.get("/api/v1/products/2").status_code == 200
        assert shop.get(f"/api/v1/orders/{ordered.json()['id']}").status_code == 404
    assert lab.json("testbed", "down", "--name", "shop")["took_s"] > 0
    assert living(everything) == []


def _assert_supervisor_is_seen(shop: httpx.Client) -> None:
    """Assert that the target shows its components and the author of its settings, as the supervisor reports them."""
    shown = shop.get("/api/v1/diagnostics/processes").json()
    assert {item["name"] for item in shown["components"]} >= {"postgres", "redis", "worker-1", "worker-2"}
    settings = shop.get("/api/v1/diagnostics/settings")
    assert settings.status_code == 200
    assert "supervisor" in settings.text
