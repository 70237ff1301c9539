"""Actions of a responder, and the catalogue of an action server, as values for tests of planning and policy."""

from __future__ import annotations

from typing import Any

from relab.incidents.actions.catalogue import ActionEntry, Catalogue, ParameterRule, UserImpact, read_catalogue
from relab.incidents.actions.records import ActionRecord

NOW_US = 1_800_000_000_000_000
SECOND_US = 1_000_000


def entry(name: str = "restart-worker", **more: Any) -> ActionEntry:
    """Return an action of a catalogue; by default a restart with a small impact."""
    given = {"title": name, "action_class": "restart", "blast_radius": UserImpact.SOME_REQUESTS, **more}
    return ActionEntry(name, **given)


def worker_entry() -> ActionEntry:
    """Return the restart of one worker, with its parameter."""
    rule = ParameterRule("worker", frozenset({"integer"}), required=True, least=0, most=63)
    return entry(parameters={"worker": rule}, target="target")


def catalogue(*entries: ActionEntry) -> Catalogue:
    """Return a catalogue of actions."""
    return Catalogue({item.name: item for item in entries})


def act(**more: Any) -> ActionRecord:
    """Return the record of an action that succeeded now."""
    given = {
        "key": "i1:1:restart-worker",
        "incident_id": "i1",
        "attempt": 1,
        "action": "restart-worker",
        "action_class": "restart",
        "blast_radius": UserImpact.SOME_REQUESTS,
        "target": "target",
        "cause": "process_stopped",
        "asked_at": NOW_US,
        "status": "succeeded",
        **more,
    }
    return ActionRecord.model_validate(given)


def shipped_catalogue() -> Catalogue:
    """Return the catalogue of the testbed's action server, as a responder reads it."""
    from relab.testbed.actions.operations import dependencies, jobs, restarts, sessions, settings, traffic

    modules = (restarts, sessions, dependencies, settings, traffic, jobs)
    rows = [kind.ACTION.to_json() for module in modules for kind in module.OPERATIONS]
    return read_catalogue({"actions": rows})
