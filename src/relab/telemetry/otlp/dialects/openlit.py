"""The dialect of OpenLIT: OpenTelemetry's GenAI names.

OpenLIT reports a graph of LangGraph as a workflow, and each node of the graph as an agent.
"""

from __future__ import annotations

from typing import Final

from relab.telemetry.otlp import vocabulary as v
from relab.telemetry.otlp.dialects.dialect import Dialect, Values, add
from relab.telemetry.otlp.dialects.openinference import AGENT_NODES
from relab.telemetry.otlp.roles import Role
from relab.telemetry.otlp.spans import Span

_NODE: Final = "gen_ai.agent.id"
_UNNAMED_GRAPH: Final = "LangGraph"


def _translate(span: Span, values: Values) -> None:
    attributes = span.attributes
    if attributes.get(v.PROVIDER) != "langgraph":
        return
    operation, graph = attributes.get(v.OPERATION), attributes.get(v.WORKFLOW_NAME)
    if operation == "invoke_agent" and attributes.get(_NODE) in AGENT_NODES:
        del values[v.OPERATION]
        values.pop(v.AGENT_NAME, None)
        values[v.ROLE] = Role.CHAIN
        values[v.IS_PLUMBING] = True
    elif operation == "invoke_workflow" and graph != _UNNAMED_GRAPH:
        values[v.OPERATION] = "invoke_agent"
        add(values, v.AGENT_NAME, graph)


OPENLIT = Dialect(name="OpenLIT", signs=frozenset((_NODE, v.WORKFLOW_NAME)), translate=_translate)
