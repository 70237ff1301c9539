"""The dialect of Spring AI, which exports spans by Micrometer: the value of each attribute is a text."""

from __future__ import annotations

from typing import Final

from relab.telemetry.otlp import vocabulary as v
from relab.telemetry.otlp.dialects.dialect import Dialect, Values
from relab.telemetry.otlp.roles import Role
from relab.telemetry.otlp.spans import Span

_KIND: Final = "spring.ai.kind"
_ROLES: Final = {
    "chat_client": Role.CHAIN,
    "advisor": Role.CHAIN,
    "tool_call": Role.TOOL,
    "vector_store": Role.RETRIEVER,
}


def _translate(span: Span, values: Values) -> None:
    if span.attributes.get(_KIND) == "advisor":
        values[v.IS_PLUMBING] = True


SPRING_AI = Dialect(
    name="Spring AI",
    signs=frozenset((_KIND, "spring.ai.tool.definition.name")),
    names=(
        ("spring.ai.tool.definition.name", v.TOOL_NAME),
        ("spring.ai.tool.call.id", v.TOOL_CALL_ID),
        ("spring.ai.tool.call.arguments", v.TOOL_ARGUMENTS),
        ("spring.ai.tool.call.result", v.TOOL_RESULT),
        ("spring.ai.chat.client.conversation.id", v.CONVERSATION_ID),
        ("db.vector.query.content", v.RETRIEVAL_QUERY),
        ("db.vector.query.response.documents", v.DOCUMENTS),
    ),
    roles={_KIND: _ROLES},
    translate=_translate,
)
