"""Read the usage of a model's answer from the attributes of its span: its tokens and its cost."""

from __future__ import annotations

import math
from typing import Any, Final, NamedTuple

from relab.telemetry.cost_models import MAX_COST_USD
from relab.telemetry.models import MAX_INT64
from relab.telemetry.otlp import vocabulary as v
from relab.telemetry.otlp.spans import Attributes

_MAX_DIGITS: Final = 19


class SpanUsage(NamedTuple):
    """The tokens and the cost in USD of a model's answer; a field is None if it was not reported.

    `tokens_prompt` includes the tokens read from the cache and written to it; `tokens_completion` includes reasoning
    tokens.
    """

    tokens_prompt: int | None
    tokens_completion: int | None
    cost_usd: float | None
    tokens_cached: int | None = None
    tokens_reasoning: int | None = None
    tokens_cache_write: int | None = None


def usage_of_both(outer: SpanUsage | None, inner: SpanUsage | None) -> SpanUsage | None:
    """Return the usage of a model call that two spans report, one inside the other; None if neither reports any.

    If both spans report a figure, such as the cost, the figure of the outer span is used. OpenHands, for example,
    reports the cost on a span around LiteLLM's span, and LiteLLM's span reports the tokens.
    """
    if outer is None or inner is None:
        return outer or inner
    reported = {name: value for name, value in outer._asdict().items() if value is not None}
    both = inner._replace(**reported)
    # One span may report the tokens of the cache, and the other one the prompt without them.
    return both._replace(tokens_prompt=_whole_prompt(both.tokens_prompt, both.tokens_cached, both.tokens_cache_write))


_NO_USAGE: Final = SpanUsage(None, None, None)


def usage_of(attributes: Attributes) -> SpanUsage | None:
    """Return the tokens and the cost of a model's answer; None if the attributes of its span report neither.

    A cost of 0 counts as not reported. Tokens of the cache and of reasoning are read only with one of the other figures.
    """
    get = attributes.get
    prompt, completion, cost = get(v.INPUT_TOKENS), get(v.OUTPUT_TOKENS), get(v.COST_USD)
    if prompt is None and completion is None and cost is None:
        return None
    cached, written = _count(get(v.CACHED_TOKENS)), _count(get(v.CACHE_WRITE_TOKENS))
    prompt = _whole_prompt(_count(prompt), cached, written)
    usage = SpanUsage(prompt, _count(completion), _cost(cost), cached, _count(get(v.REASONING_TOKENS)), written)
    return None if usage == _NO_USAGE else usage


def _whole_prompt(prompt: int | None, cached: int | None, written: int | None) -> int | None:
    """Return the number of all prompt tokens, those in the provider's cache included; None if `prompt` is None.

    Args:
        prompt: the reported number of prompt tokens. Some providers leave the other two numbers out of it. That is
            certain if `cached` and `written` together exceed it; they are then added. Otherwise it is returned as is.
        cached: the number of tokens that were read from the cache; None if not reported.
        written: the number of tokens that were written to the cache; None if not reported.
    """
    from_cache = (cached or 0) + (written or 0)
    if prompt is not None and from_cache > prompt:
        # A part is never more than the whole: this reporter counts like Anthropic, whose input leaves out the cache.
        return prompt + from_cache
    return prompt


def _count(value: Any) -> int | None:
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    elif isinstance(value, str) and value.isascii() and value.isdigit() and len(value) <= _MAX_DIGITS:
        # Micrometer exports all values as texts.
        value = int(value)
    return value if type(value) is int and 0 <= value <= MAX_INT64 else None


def _cost(value: Any) -> float | None:
    if type(value) not in {int, float} or not math.isfinite(value):
        return None
    # Some reporters send zero if they know no price (OpenLIT) or if the call failed (Langfuse).
    return float(value) if 0 < value <= MAX_COST_USD else None
