"""The response graph: its edges equal those in the design note."""

from __future__ import annotations

from typing import Any, cast

from relab.incidents.response.graph import build_graph
from relab.incidents.storage.models import Phase

EDGES = {
    "__start__": {"monitor"},
    "monitor": {"detect"},
    "detect": {"gather", "learn", "watch"},
    "gather": {"diagnose"},
    "diagnose": {"investigate"},
    "investigate": {"plan", "learn"},
    "plan": {"approve", "execute", "investigate", "escalate"},
    "approve": {"approve", "execute", "investigate", "learn", "escalate"},
    "execute": {"verify", "investigate", "escalate"},
    "verify": {"learn", "investigate", "escalate"},
    "escalate": {"watch"},
    "watch": {"learn", "monitor", "__end__"},
    "learn": {"__end__"},
}


def drawn() -> dict[str, set[str]]:
    """Return the successors of each node; building the graph does not use its context."""
    found: dict[str, set[str]] = {}
    for edge in build_graph(cast("Any", None)).get_graph().edges:
        found.setdefault(edge.source, set()).add(edge.target)
    return found


def test_edges_are_those_of_the_design_note() -> None:
    assert drawn() == EDGES


def test_each_request_to_investigate_leads_to_the_node_that_investigates() -> None:
    askers = {source for source, targets in drawn().items() if "investigate" in targets}

    assert askers == {"diagnose", "plan", "approve", "execute", "verify"}


def test_each_node_but_watch_is_a_phase() -> None:
    nodes = set(drawn()) - {"__start__"}

    assert nodes - {phase.value for phase in Phase} == {"watch"}
