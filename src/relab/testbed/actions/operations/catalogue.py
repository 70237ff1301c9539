"""All actions of the catalogue."""

from __future__ import annotations

from relab.testbed.actions.operations import dependencies, jobs, restarts, sessions, settings, traffic
from relab.testbed.actions.plant import Plant
from relab.testbed.actions.service import Operation


def all_operations(plant: Plant) -> list[Operation]:
    """Return the implementations of all actions of the catalogue; `plant` gives them access to the testbed."""
    modules = (restarts, sessions, dependencies, settings, traffic, jobs)
    return [kind(plant) for module in modules for kind in module.OPERATIONS]
