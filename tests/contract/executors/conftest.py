"""Fixtures of the executor tests: executors of each registered kind, and a Ray cluster."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from relab.experiments.executors.registry import EXECUTORS
from relab.experiments.models import RAY_EXECUTOR
from rig.ray_cluster import ray_cluster
from support.components.ray import require_ray
from support.experiments.benches import Benches

# Tests with Ray are slow because each starts processes on a cluster, so they run only with `full`.
KINDS = [pytest.param(name, marks=[pytest.mark.full] if name == RAY_EXECUTOR else []) for name in EXECUTORS]


@pytest.fixture(scope="session")
def ray_address() -> Iterator[str]:
    """The address of a Ray cluster with one node, to which all tests stay connected."""
    require_ray()
    with ray_cluster(nodes=1) as cluster:
        import ray

        ray.init(address=cluster.address, namespace="relab", log_to_driver=False, logging_level="ERROR")
        yield cluster.address
        ray.shutdown()


@pytest.fixture(params=KINDS)
def benches(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Benches]:
    """Executors of each kind that is registered."""
    address = request.getfixturevalue("ray_address") if request.param == RAY_EXECUTOR else None
    made = Benches(request.param, tmp_path, address)
    yield made
    made.close()
