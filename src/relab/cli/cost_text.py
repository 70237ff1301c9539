"""Convert costs and numbers of tokens to text for people."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from relab.telemetry.models import RunHeader


def usd_text(usd: float) -> str:
    """Return an amount in USD as text: with four decimals, or with three significant digits if it is below 0.01 USD."""
    return f"{usd:,.4f} USD" if usd == 0 or usd >= 0.01 else f"{usd:.3g} USD"


def token_text(tokens: Mapping[str, Any]) -> str | None:
    """Return the numbers of tokens as text: prompt + completion, such as `1,200 (800 cached) + 50 (20 reasoning)`.

    Return None if neither the prompt's nor the completion's tokens are known.

    Args:
        tokens: `prompt`, `cached`, `cache_write`, `completion` and `reasoning`, each a count or None.
    """
    prompt, completion = tokens.get("prompt"), tokens.get("completion")
    if prompt is None and completion is None:
        return None
    parts = (
        _with_parts(prompt, (("cached", tokens.get("cached")), ("written to the cache", tokens.get("cache_write")))),
        _with_parts(completion, (("reasoning", tokens.get("reasoning")),)),
    )
    return " + ".join(parts)


def _with_parts(count: int | None, parts: tuple[tuple[str, int | None], ...]) -> str:
    known = ", ".join(f"{part:,} {name}" for name, part in parts if part)
    return f"{'-' if count is None else format(count, ',')}{f' ({known})' if known else ''}"


def cost_text(run: RunHeader) -> str | None:
    """Return the cost of a run as text: the reported cost, or else the estimated cost, marked as "estimated".

    If an estimate was tried and is not possible, the text is a hyphen with the reason. None if the run has neither a
    reported cost nor an estimate.
    """
    cost, estimated = run.cost, run.cost_estimate
    if cost is not None and cost.total_cost_usd is not None:
        missing = cost.calls_without_cost
        return usd_text(cost.total_cost_usd) + (f" (without {missing} calls of models)" if missing else "")
    if estimated is None:
        return None
    if estimated.total_cost_usd is None:
        return f"- ({estimated.missing})"
    return f"{usd_text(estimated.total_cost_usd)} (estimated, prices of {estimated.prices_as_of})"


def run_tokens(run: RunHeader) -> str | None:
    """Return the numbers of tokens of a run as text, as `token_text` does; None if they are unknown."""
    if run.cost is None:
        return None
    kinds = ("prompt", "cached", "cache_write", "completion", "reasoning")
    return token_text({kind: getattr(run.cost, f"tokens_{kind}") for kind in kinds})
