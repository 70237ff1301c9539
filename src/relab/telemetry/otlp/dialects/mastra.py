"""The dialect of Mastra: OpenTelemetry's GenAI names, and names of its own for input, output and metadata."""

from __future__ import annotations

from typing import Final

from relab.telemetry.otlp import vocabulary as v
from relab.telemetry.otlp.dialects.dialect import Dialect, Values, add, text_of
from relab.telemetry.otlp.roles import Role
from relab.telemetry.otlp.spans import STATUS_ERROR, Span

_TYPE: Final = "mastra.span.type"
_METADATA: Final = "mastra.metadata."
_OUTPUT: Final = "mastra.agent_run.output"
_ABORTED: Final = '{"status":"aborted"'
_FAILED: Final = (["error"], '["error"]')
_SUSPENDED: Final = '{"status":"suspended"'


def _translate(span: Span, values: Values) -> None:
    attributes = span.attributes
    kind = attributes.get(_TYPE)
    add(values, v.INPUT, attributes.get(f"mastra.{kind}.input"))
    add(values, v.OUTPUT, attributes.get(f"mastra.{kind}.output"))
    add(values, v.CONVERSATION_ID, text_of(attributes, f"{_METADATA}threadId", f"{_METADATA}sessionId"))
    add(values, v.USER_ID, text_of(attributes, f"{_METADATA}userId", f"{_METADATA}resourceId"))
    if kind == "agent_run":
        _translate_end(text_of(attributes, _OUTPUT) or "", values)
    elif kind == "model_inference" and values.get(v.FINISH_REASONS) in _FAILED:
        # The message of the error is on the agent's span only.
        add(values, v.ERROR_TYPE, "error")
    elif kind == "processor_run" and span.status == STATUS_ERROR:
        # A processor stops its agent by an error, although the agent's span reports success and the rejected answer.
        values[v.ROLE] = Role.GUARDRAIL
        values[v.STOPS_AGENT] = True
    elif isinstance(kind, str) and kind.startswith("workflow_"):
        values[v.ROLE] = Role.CHAIN


def _translate_end(output: str, values: Values) -> None:
    """Remove an agent's output from `values` if it only states that the agent was aborted or waits for a person.

    If the agent was aborted, add the error type `cancelled` to `values`.
    """
    if output.startswith(_ABORTED):
        add(values, v.ERROR_TYPE, "cancelled")
    if output.startswith((_ABORTED, _SUSPENDED)):
        values.pop(v.OUTPUT)


MASTRA = Dialect(name="Mastra", signs=frozenset((_TYPE,)), translate=_translate)
