"""List all dialects, and translate a span with each dialect that the span uses.

To add a dialect, write a module with one `Dialect`, and add a line to `DIALECTS`. Dialects are applied in this order.
The tables of a dialect (`roles`, `names`) do not replace values that the span has under OpenTelemetry's current names,
or that an earlier dialect has added. Its function `translate` may replace them.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from typing import Final, NamedTuple

from relab.telemetry.otlp.dialects.agentops import AGENTOPS
from relab.telemetry.otlp.dialects.autogen import AUTOGEN
from relab.telemetry.otlp.dialects.braintrust import BRAINTRUST
from relab.telemetry.otlp.dialects.claude_code import CLAUDE_CODE
from relab.telemetry.otlp.dialects.codex import CODEX
from relab.telemetry.otlp.dialects.coding_agents import CODING_AGENTS
from relab.telemetry.otlp.dialects.dialect import Values
from relab.telemetry.otlp.dialects.effect import EFFECT
from relab.telemetry.otlp.dialects.gemini_cli import GEMINI_CLI
from relab.telemetry.otlp.dialects.genai import GENAI_EVENTS, OLDER_GENAI, has_genai_events
from relab.telemetry.otlp.dialects.generic import GENERIC
from relab.telemetry.otlp.dialects.genkit import GENKIT
from relab.telemetry.otlp.dialects.google_adk import GOOGLE_ADK
from relab.telemetry.otlp.dialects.hand_written import HAND_WRITTEN
from relab.telemetry.otlp.dialects.haystack import HAYSTACK
from relab.telemetry.otlp.dialects.laminar import LAMINAR
from relab.telemetry.otlp.dialects.langfuse import LANGFUSE
from relab.telemetry.otlp.dialects.langsmith import LANGSMITH
from relab.telemetry.otlp.dialects.litellm import LITELLM
from relab.telemetry.otlp.dialects.livekit import LIVEKIT
from relab.telemetry.otlp.dialects.logfire import LOGFIRE
from relab.telemetry.otlp.dialects.mastra import MASTRA
from relab.telemetry.otlp.dialects.mcp import MCP
from relab.telemetry.otlp.dialects.mlflow import MLFLOW
from relab.telemetry.otlp.dialects.openai_agents import OPENAI_AGENTS
from relab.telemetry.otlp.dialects.openinference import OPENINFERENCE
from relab.telemetry.otlp.dialects.openlit import OPENLIT
from relab.telemetry.otlp.dialects.openllmetry import OPENLLMETRY
from relab.telemetry.otlp.dialects.pipecat import PIPECAT
from relab.telemetry.otlp.dialects.pydantic_ai import PYDANTIC_AI
from relab.telemetry.otlp.dialects.spring_ai import SPRING_AI
from relab.telemetry.otlp.dialects.vercel import VERCEL
from relab.telemetry.otlp.dialects.voltagent import VOLTAGENT
from relab.telemetry.otlp.roles import Role
from relab.telemetry.otlp.spans import Span
from relab.telemetry.otlp.vocabulary import ROLE

DIALECTS: Final = (
    LOGFIRE,
    PYDANTIC_AI,
    HAYSTACK,
    OPENINFERENCE,
    OPENLLMETRY,
    VERCEL,
    GOOGLE_ADK,
    AUTOGEN,
    OPENAI_AGENTS,
    OPENLIT,
    MASTRA,
    GENKIT,
    VOLTAGENT,
    CLAUDE_CODE,
    CODEX,
    GEMINI_CLI,
    CODING_AGENTS,
    LANGSMITH,
    MCP,
    MLFLOW,
    LANGFUSE,
    AGENTOPS,
    LAMINAR,
    BRAINTRUST,
    SPRING_AI,
    LIVEKIT,
    EFFECT,
    OLDER_GENAI,
    GENERIC,
    HAND_WRITTEN,
    # After the dialect that reads the texts of the same spans.
    PIPECAT,
    # Last, because it removes what others have read from spans that only hold the attributes of a call.
    LITELLM,
)
"""All dialects that are recognised by attributes of a span; OpenTelemetry's message events are read too (`GENAI_EVENTS`)."""

_SIGNS: Final = frozenset().union(*(dialect.signs for dialect in DIALECTS))
_READ: Final = _SIGNS.union(
    *({*dialect.roles, *(attribute for attribute, _ in dialect.names)} for dialect in DIALECTS),
)
"""The attributes by which dialects are recognised, and the attributes in their tables `roles` and `names`."""
_MAX_CACHED_SETS: Final = 1_024


class _Translation(NamedTuple):
    """The part of a dialect (the attribute names of one family of instrumentations) that applies to a span.

    Attributes:
        roles: pairs `(attribute, {value: role})`, only for attributes that the span has.
        names: pairs `(attribute of the dialect, name in the vocabulary)`, only for attributes that the span has.
        translate: the dialect's function of the span and the values found so far; it adds further values.
    """

    roles: tuple[tuple[str, Mapping[str, Role]], ...]
    names: tuple[tuple[str, str], ...]
    translate: Callable[[Span, Values], None]


def normalize(span: Span) -> Span:
    """Return a copy of a span that also has its facts, such as model and tokens, under the names of `vocabulary.py`.

    The facts are read from attributes that an instrumentation wrote under names of its own (a dialect). A span without
    a known dialect is returned unchanged.
    """
    attributes = span.attributes
    has_events = bool(span.events) and has_genai_events(span.events)
    if _SIGNS.isdisjoint(attributes):
        if not has_events:
            return span
        translations: tuple[_Translation, ...] = ()
    else:
        translations = _translations(_READ.intersection(attributes))
    values = dict(attributes)
    for roles_by_attribute, names, translate in translations:
        for attribute, roles in roles_by_attribute:
            declared = attributes[attribute]
            if isinstance(declared, str) and declared in roles and ROLE not in values:
                values[ROLE] = roles[declared]
        for attribute, name in names:
            value = attributes[attribute]
            if value is not None and values.get(name) is None:
                values[name] = value
        translate(span, values)
    if has_events:
        GENAI_EVENTS.translate(span, values)
    return span._replace(attributes=values)


# Cached: the spans of a program have few different sets of attributes, and the tables of all dialects have hundreds of
# lines.
@functools.lru_cache(maxsize=_MAX_CACHED_SETS)
def _translations(present: frozenset[str]) -> tuple[_Translation, ...]:
    """Return a translation to the names of `vocabulary.py` for each dialect of a span, in `DIALECTS` order.

    A dialect is the set of attribute names of one instrumentation.

    Args:
        present: the names of the span's attributes, without those that no dialect reads.
    """
    return tuple(
        _Translation(
            tuple((attribute, roles) for attribute, roles in dialect.roles.items() if attribute in present),
            tuple(pair for pair in dialect.names if pair[0] in present),
            dialect.translate,
        )
        for dialect in DIALECTS
        if not dialect.signs.isdisjoint(present)
    )
