"""The workflow of an incident as a LangGraph graph: its nodes and edges."""

from __future__ import annotations

from typing import Any

from langgraph.checkpoint.base import BaseCheckpointSaver
from langgraph.graph import END, START, StateGraph
from langgraph.graph.state import CompiledStateGraph

from relab.incidents.response.assessment_nodes import AssessmentNodes
from relab.incidents.response.closing_nodes import ClosingNodes
from relab.incidents.response.context import ResponseContext
from relab.incidents.response.execution_nodes import ExecutionNodes
from relab.incidents.response.planning_nodes import PlanningNodes
from relab.incidents.response.state import IncidentState

Graph = CompiledStateGraph[Any, Any, Any, Any]


def build_graph(world: ResponseContext, checkpointer: BaseCheckpointSaver[Any] | None = None) -> Graph:
    """Build the workflow of incidents, a LangGraph graph whose nodes detect, diagnose, repair and verify.

    Each incident is one thread of the graph; the thread's id is the id of the incident. The state is stored after every
    node. After a crash, the interrupted node runs again from its beginning.

    Args:
        world: the services that the nodes use.
        checkpointer: stores the state of each thread; None to store nothing.
    """
    assessing, acting, ending = AssessmentNodes(world), ExecutionNodes(world), ClosingNodes(world)
    planning = PlanningNodes(world, assessing)
    graph = StateGraph(IncidentState)
    graph.add_node("monitor", assessing.monitor)
    graph.add_node("detect", assessing.detect)
    graph.add_node("gather", assessing.gather)
    graph.add_node("diagnose", assessing.diagnose)
    graph.add_node("investigate", assessing.investigate)
    graph.add_node("plan", planning.plan)
    graph.add_node("approve", planning.approve)
    # A node that runs again executes no action twice, because idempotency keys are derived from the state.
    graph.add_node("execute", acting.execute)
    graph.add_node("verify", acting.verify)
    graph.add_node("learn", ending.learn)
    graph.add_node("escalate", ending.escalate)
    graph.add_node("watch", ending.watch)
    graph.add_edge(START, "monitor")
    graph.add_edge("monitor", "detect")
    graph.add_conditional_edges("detect", _after_detect, {"gather": "gather", "learn": "learn", "watch": "watch"})
    graph.add_edge("gather", "diagnose")
    graph.add_edge("diagnose", "investigate")
    graph.add_conditional_edges("investigate", _way, {"plan": "plan", "learn": "learn"})
    graph.add_conditional_edges(
        "plan", _way, {"approve": "approve", "execute": "execute", "investigate": "investigate", "escalate": "escalate"}
    )
    graph.add_conditional_edges(
        "approve",
        _way,
        {
            "approve": "approve",
            "execute": "execute",
            "investigate": "investigate",
            "learn": "learn",
            "escalate": "escalate",
        },
    )
    graph.add_conditional_edges(
        "execute", _way, {"verify": "verify", "investigate": "investigate", "escalate": "escalate"}
    )
    graph.add_conditional_edges(
        "verify", _way, {"learn": "learn", "investigate": "investigate", "escalate": "escalate"}
    )
    graph.add_edge("escalate", "watch")
    graph.add_conditional_edges("watch", _way, {"learn": "learn", "monitor": "monitor", "end": END})
    graph.add_edge("learn", END)
    return graph.compile(checkpointer=checkpointer)


def _after_detect(state: IncidentState) -> str:
    if state["is_unhealthy"]:
        return "gather"
    # After a handover the incident ends only when users have been served well for long enough, so return to `watch`.
    return "watch" if state.get("relooks") else "learn"


def _way(state: IncidentState) -> str:
    return state["way"]
