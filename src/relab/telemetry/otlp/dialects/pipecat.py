"""The dialect of Pipecat, a framework for voice agents: a conversation has turns, and a turn has model calls.

The span of a model call has its texts in `input` and `output`, as hand-written spans do. It has an `output` only if the
model said something: a request for a tool is only in the input of the next model call.
"""

from __future__ import annotations

from typing import Final

from relab.telemetry.otlp import vocabulary as v
from relab.telemetry.otlp.dialects.dialect import Dialect, Values, add
from relab.telemetry.otlp.roles import Role
from relab.telemetry.otlp.spans import Span

_TYPE: Final = "conversation.type"
_TURN: Final = "turn.number"
_IS_STREAM: Final = "stream"
_KIND_OF_OUTPUT: Final = "gen_ai.output.type"
_MODEL: Final = "llm"


def _translate(span: Span, values: Values) -> None:
    # Other programs have these attributes on spans of other kinds, so the names of Pipecat's spans must match as well.
    attributes = span.attributes
    if span.name == "conversation" and _TYPE in attributes:
        add(values, v.ROLE, Role.AGENT)
    elif span.name == "turn" and _TURN in attributes:
        add(values, v.ROLE, Role.CHAIN)
    is_model = span.name == _MODEL and _IS_STREAM in attributes and _KIND_OF_OUTPUT in attributes
    if is_model and "input" in attributes and "output" not in attributes:
        # Tokens are reported when the answer is complete: a call without them was interrupted.
        add(values, v.OUTPUT, "" if attributes.get(v.OUTPUT_TOKENS) is not None else None)


PIPECAT = Dialect(
    name="Pipecat",
    signs=frozenset((_TYPE, _TURN, _IS_STREAM)),
    names=(("conversation.id", v.CONVERSATION_ID),),
    translate=_translate,
)
