"""Evaluate a flag for a context: pure functions with the same result on every machine.

The reasons in the results are those of OpenFeature: https://openfeature.dev/specification/types/#resolution-reason
"""

from __future__ import annotations

import hashlib

from relab.core.json import is_number
from relab.flags.errors import InvalidContextError, TargetingKeyMissingError
from relab.flags.models import ALL_BP, Condition, Context, Evaluation, FlagVersion, Reason, SplitPart
from relab.flags.values import same

TARGETING_KEY = "targetingKey"


def evaluate(flag: FlagVersion, context: Context) -> Evaluation:
    """Return the value of a flag for a context.

    Raises:
        InvalidContextError: the targeting key is not a text.
        TargetingKeyMissingError: the value depends on the targeting key, and the context has none.
    """
    variant, reason = _choose(flag, context)
    return Evaluation(
        key=flag.key, version=flag.version, variant=variant, value=flag.content.variants[variant], reason=reason
    )


def bucket(key: str, salt: str, targeting_key: str) -> int:
    """Return the bucket (0 to 9,999) of a targeting key (the id of the user or other subject) for one flag.

    The bucket is the first 8 bytes of a SHA-256 of the flag's `key`, `salt` and `targeting_key`, modulo 10,000.
    """
    # Neither the key nor the salt can contain a NUL character, so different triples give different texts.
    text = f"{key}\0{salt}\0{targeting_key}".encode(errors="surrogatepass")
    # The modulo favours low buckets by less than 1 in 10^15.
    return int.from_bytes(hashlib.sha256(text).digest()[:8]) % ALL_BP


def targeting_key_of(context: Context) -> str:
    """Return the targeting key of a context; empty if it has none.

    Raises:
        InvalidContextError: the targeting key is not a text.
    """
    targeting_key = context.get(TARGETING_KEY, "")
    if not isinstance(targeting_key, str):
        raise InvalidContextError(
            "The targeting key of the context is not a string.",
            problems=((f"context.{TARGETING_KEY}", "must be a text"),),
        )
    return targeting_key


def _choose(flag: FlagVersion, context: Context) -> tuple[str, Reason]:
    content = flag.content
    targeting_key = targeting_key_of(context)
    if not content.is_enabled:
        return content.default_variant, "DISABLED"
    if not content.rules:
        return content.default_variant, "STATIC"
    for rule in content.rules:
        if all(_holds(condition, context) for condition in rule.conditions):
            if rule.serve.split is None:
                assert rule.serve.variant is not None
                return rule.serve.variant, "TARGETING_MATCH"
            if not targeting_key:
                raise TargetingKeyMissingError(flag.key)
            return _part(rule.serve.split, bucket(flag.key, content.salt, targeting_key)), "SPLIT"
    return content.default_variant, "DEFAULT"


def _part(split: tuple[SplitPart, ...], position: int) -> str:
    for part in split:
        position -= part.weight_bp
        if position < 0:
            return part.variant
    raise AssertionError("the weights of a split add up to all buckets")


def _holds(condition: Condition, context: Context) -> bool:
    given, wanted = context.get(condition.attribute), condition.value
    if condition.op == "eq":
        return same(given, wanted)
    if condition.op == "in":
        return isinstance(wanted, list) and any(same(given, item) for item in wanted)
    if condition.op == "starts_with":
        return isinstance(given, str) and isinstance(wanted, str) and given.startswith(wanted)
    if not is_number(given) or not is_number(wanted):
        return False
    return given < wanted if condition.op == "lt" else given > wanted
