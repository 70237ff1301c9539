"""All faults of the catalogue."""

from __future__ import annotations

from relab.testbed.chaos.faults import cache, database, host, network, noise, processes, settings, traffic
from relab.testbed.chaos.ground import Ground
from relab.testbed.chaos.manager import Make
from relab.testbed.chaos.models import Fault


def all_faults(ground: Ground) -> dict[str, tuple[Fault, Make]]:
    """Return all faults of the catalogue, each with the function that creates its cause on this testbed."""
    modules = (database, cache, network, processes, settings, host, noise, traffic)
    return {name: row for module in modules for name, row in module.faults(ground).items()}
