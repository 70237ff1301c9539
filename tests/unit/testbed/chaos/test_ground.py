"""The ground of faults: the snapshot of a fault's processes, and the needs that the machine does not meet."""

from __future__ import annotations

import socket
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from relab.testbed.actions.plant import Plant, PlantError
from relab.testbed.chaos.faults.connections import PoolLeak
from relab.testbed.chaos.ground import Ground, Standing, worker_number
from relab.testbed.chaos.machine import Impossible
from relab.testbed.links.client import LinksClient


class Rows(Plant):
    """A plant with configurable components, limits and data folder; counts the queries of available limits."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder / "none", "http://127.0.0.1:9")
        self.rows: list[dict[str, Any]] = [{"name": f"worker-{n}", "group": "target", "pid": n} for n in (1, 2)]
        self.available: dict[str, str | None] = {"cpu_pct": None, "memory_mb": "cgroup2"}
        self.data_dir = str(folder)
        self.asked = 0

    def components(self, name: str | None = None) -> list[dict[str, Any]]:
        return [row for row in self.rows if name in (None, row["name"], row["group"])]

    def limits_available(self) -> dict[str, str | None]:
        self.asked += 1
        return self.available

    def settings(self) -> dict[str, Any]:
        return {"data_dir": self.data_dir}


@pytest.fixture
def plant(tmp_path: Path) -> Any:
    found = Rows(tmp_path)
    yield found
    found.close()


def test_restarted_process_is_not_in_the_snapshot(plant: Rows) -> None:
    standing = Standing(plant, "target")
    assert standing.pids() == {"worker-1": 1, "worker-2": 2}
    assert standing.is_whole() is True

    plant.rows[0]["pid"] = 7
    assert standing.workers() == [2]
    assert standing.is_whole() is False
    assert standing.share(0.5) == []
    assert standing.share(1.0) == ["worker-2"]
    plant.rows[1]["pid"] = None
    assert standing.workers() == []


@pytest.mark.parametrize(
    ("level", "names"), [(0.0, []), (0.1, ["worker-1"]), (0.5, ["worker-1"]), (1.0, ["worker-1", "worker-2"])]
)
def test_level_is_a_share_of_the_snapshot_of_at_least_one_component(
    plant: Rows, level: float, names: list[str]
) -> None:
    assert Standing(plant, "target").share(level) == names


def test_worker_number_is_read_from_the_component_name() -> None:
    assert worker_number("worker-12") == 12
    assert worker_number("worker") == 1


def test_unmet_needs_are_queried_once_and_have_a_reason(plant: Rows) -> None:
    impossible = Impossible(plant)
    assert plant.asked == 0
    assert "cpu_pct" in impossible["cgroup"]
    assert "memory_mb" not in impossible["cgroup"]
    assert "separate volume" in impossible["mount"]
    assert plant.asked == 1

    plant.available, plant.data_dir = {"cpu_pct": "cgroup1", "memory_mb": "cgroup1"}, "/proc"
    assert {"cgroup", "mount"}.isdisjoint(Impossible(plant))


@dataclass(frozen=True)
class Deaf(Ground):
    """A ground whose first worker does not answer orders; records the orders to all workers."""

    told: list[tuple[int, Mapping[str, Any]]] = field(default_factory=list)

    def order_worker(self, number: int, order: Mapping[str, Any]) -> dict[str, Any]:
        self.told.append((number, order))
        if number == 1:
            raise PlantError("Worker 1 does not answer.")
        return {}


def test_worker_that_does_not_answer_does_not_prevent_release_in_the_others(plant: Rows, tmp_path: Path) -> None:
    ground = Deaf(plant, LinksClient(tmp_path / "none"), tmp_path, "http://127.0.0.1:9")
    leak = PoolLeak(ground)
    for _ in range(2):
        ground.told.clear()
        # The caller gets the error and may retry.
        with pytest.raises(PlantError, match="Worker 1"):
            leak.end()
        assert ground.told == [(number, {"op": "release", "what": "connections"}) for number in (1, 2)]


def test_worker_that_ends_in_its_answer_counts_as_not_answering(plant: Rows, tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as door:
        door.bind(str(tmp_path / "worker-1.sock"))
        door.listen()

        def serve() -> None:
            client, _ = door.accept()
            with client:
                client.recv(1_000)
                client.sendall(b'{"ok": tr')

        worker = threading.Thread(target=serve)
        worker.start()
        ground = Ground(plant, LinksClient(tmp_path / "none"), tmp_path, "http://127.0.0.1:9")
        with pytest.raises(PlantError, match="in the middle of its answer"):
            ground.order_worker(1, {"op": "status"})
        worker.join()
