"""The dialect of Qwen Code and opencode: set the role of spans that report a hook or a part of a tool call.

These coding agents use OpenTelemetry's GenAI names or the names of the Vercel AI SDK for all other attributes.
"""

from __future__ import annotations

from typing import Final

from relab.telemetry.otlp import vocabulary as v
from relab.telemetry.otlp.dialects.dialect import Dialect, Values
from relab.telemetry.otlp.roles import Role
from relab.telemetry.otlp.spans import Span

_PARTS: Final = ("qwen-code.tool.execution", "qwen-code.tool.blocked_on_user", "Tool.execute")


def _translate(span: Span, values: Values) -> None:
    if span.name in _PARTS:
        values[v.ROLE] = Role.TOOL
        values[v.IS_PLUMBING] = True
    elif span.name == "qwen-code.hook":
        # A hook names the tool before or after which it runs. If it blocks the call, the span of the tool says so.
        values[v.ROLE] = Role.OTHER


CODING_AGENTS = Dialect(
    name="Qwen Code and opencode",
    signs=frozenset(("hook_event", "execution_status", "tool.call_id", "decision")),
    translate=_translate,
)
