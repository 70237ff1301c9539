"""A Ray cluster of several nodes on this machine."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from ray.cluster_utils import Cluster

_OBJECTS_BYTES: Final = 100_000_000
_QUICK: Final[Mapping[str, int]] = {
    # Ray detects a killed node after one second instead of ten.
    "health_check_initial_delay_ms": 0,
    "health_check_period_ms": 500,
    "health_check_failure_threshold": 4,
}


@contextmanager
def ray_cluster(*, nodes: int, num_cpus: int = 2) -> Iterator[Cluster]:
    """Run a Ray cluster of `nodes` nodes on loopback addresses of this machine while the block runs.

    Each node offers `num_cpus` processors for tasks, however many the machine has.
    """
    # Ray reads the first variable on import; "0" gives each node the address 127.0.0.1.
    kept = dict(os.environ)
    os.environ |= {"RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0", "RAY_USAGE_STATS_ENABLED": "0"}
    from ray.cluster_utils import Cluster  # noqa: PLC0415 it is an extra, and reads the environment when it is imported

    options = {"num_cpus": num_cpus, "object_store_memory": _OBJECTS_BYTES}
    cluster = Cluster(
        initialize_head=True,
        head_node_args={**options, "include_dashboard": False, "_system_config": dict(_QUICK)},
    )
    try:
        for _ in range(nodes - 1):
            cluster.add_node(**options)
        cluster.wait_for_nodes()
        yield cluster
    finally:
        cluster.shutdown()
        os.environ.clear()
        os.environ |= kept
