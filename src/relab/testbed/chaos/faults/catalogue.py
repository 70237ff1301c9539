"""Every fault of the catalogue."""

from __future__ import annotations

from relab.testbed.chaos.faults import cache, database, network
from relab.testbed.chaos.ground import Ground
from relab.testbed.chaos.manager import Make
from relab.testbed.chaos.models import Fault


def all_faults(ground: Ground) -> dict[str, tuple[Fault, Make]]:
    """Return every fault of the catalogue, with what makes its cause on this ground."""
    return {**database.faults(ground), **cache.faults(ground), **network.faults(ground)}
