"""The attribute names from which runs are computed: OpenTelemetry's GenAI conventions, and a few of relab's own.

Spans of other dialects are translated to these names first (`dialects/`), so that each fact has only one name
afterwards. Only the provider of a model has two (`PROVIDER`, `OLDER_PROVIDER`).
"""

from __future__ import annotations

from typing import Final

OPERATION: Final = "gen_ai.operation.name"
MCP_METHOD: Final = "mcp.method.name"
AGENT_NAME: Final = "gen_ai.agent.name"
AGENT_VERSION: Final = "gen_ai.agent.version"
WORKFLOW_NAME: Final = "gen_ai.workflow.name"
PROVIDER: Final = "gen_ai.provider.name"
OLDER_PROVIDER: Final = "gen_ai.system"
"""The older name of `PROVIDER`. Both are read, because a translation would copy the attributes of most spans."""
REQUEST_MODEL: Final = "gen_ai.request.model"
RESPONSE_MODEL: Final = "gen_ai.response.model"
CONVERSATION_ID: Final = "gen_ai.conversation.id"
USER_ID: Final = "user.id"

INPUT_MESSAGES: Final = "gen_ai.input.messages"
OUTPUT_MESSAGES: Final = "gen_ai.output.messages"
FINISH_REASONS: Final = "gen_ai.response.finish_reasons"
INPUT_TOKENS: Final = "gen_ai.usage.input_tokens"
OUTPUT_TOKENS: Final = "gen_ai.usage.output_tokens"
CACHED_TOKENS: Final = "gen_ai.usage.cache_read.input_tokens"
CACHE_WRITE_TOKENS: Final = "gen_ai.usage.cache_creation.input_tokens"
"""Tokens read from and written to the cache are part of `INPUT_TOKENS`. If a dialect reports other numbers, its translation adds them."""
REASONING_TOKENS: Final = "gen_ai.usage.reasoning.output_tokens"

TOOL_NAME: Final = "gen_ai.tool.name"
TOOL_CALL_ID: Final = "gen_ai.tool.call.id"
TOOL_ARGUMENTS: Final = "gen_ai.tool.call.arguments"
TOOL_RESULT: Final = "gen_ai.tool.call.result"
DATA_SOURCE: Final = "gen_ai.data_source.id"
RETRIEVAL_QUERY: Final = "gen_ai.retrieval.query.text"
DOCUMENTS: Final = "gen_ai.retrieval.documents"

ERROR_TYPE: Final = "error.type"
UNNAMED_ERROR: Final = "_OTHER"
"""The value of `error.type` for an error without a name."""
ERROR_MESSAGE: Final = "error.message"
STATUS_CODE: Final = "http.response.status_code"
RESEND_COUNT: Final = "http.request.resend_count"

ROLE: Final = "relab.role"
"""The span's role as its dialect declares it, a `Role`; a GenAI operation of the span has precedence."""
INPUT: Final = "relab.input"
OUTPUT: Final = "relab.output"
"""The input and output of a span that are not messages, as they were captured."""
COST_USD: Final = "relab.cost_usd"
IS_PLUMBING: Final = "relab.is_plumbing"
"""Whether the span is an internal step of its framework, whose name users do not know."""
ENDS_STREAM: Final = "relab.ends_stream"
"""Whether the span only reports the end of a model's streamed answer, whose request is another span beside it."""
STOPS_AGENT: Final = "relab.stops_agent"
"""Whether the span is a guardrail that stopped the agent around it, although the agent's span may report success."""
HANDOVER_TO: Final = "relab.handover_to"
"""The name of the agent that takes over the conversation."""
HAS_NO_MESSAGES: Final = "relab.has_no_messages"
"""Whether an agent's span reports an empty list of messages: the agent exchanged no message with its model."""
