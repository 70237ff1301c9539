"""Flag evaluation: rules apply in order, and a percentage split keeps each key in its bucket."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from relab.flags.errors import InvalidContextError, TargetingKeyMissingError
from relab.flags.evaluation import bucket, evaluate
from relab.flags.models import ALL_BP, FlagContent, FlagVersion
from support.flags.contents import JSON_VALUES, TEXTS, Document, content, documents, rule, weights

NAMES = ["a", "b", "c", "d"]


def flag(made: FlagContent, key: str = "flag") -> FlagVersion:
    return FlagVersion(
        key=key,
        version=7,
        action="updated",
        created_at=0,
        author="a",
        note="",
        digest="sha256:x",
        restored_version=None,
        content=made,
    )


def flag_of(*rules: Document, **fields: Any) -> FlagVersion:
    return flag(content(rules=list(rules), **fields))


def served(version: FlagVersion, context: dict[str, Any]) -> tuple[str, str]:
    found = evaluate(version, context)
    assert found.key == "flag"
    assert found.version == 7
    assert found.value == version.content.variants[found.variant]
    return found.variant, found.reason


def split_flag(shares: list[int], salt: str = "") -> FlagVersion:
    made = FlagContent.model_validate(
        {
            "value_type": "string",
            "variants": {name: name for name in NAMES},
            "default_variant": "a",
            "salt": salt,
            "rules": [rule("all", variant=None, **dict(zip(NAMES, shares, strict=True)))],
        }
    )
    return flag(made)


def test_without_rules_the_default_is_static() -> None:
    assert served(flag_of(), {}) == ("off", "STATIC")


def test_disabled_flag_returns_its_default_despite_matching_rules() -> None:
    disabled = flag_of(rule(variant="on"), is_enabled=False)

    assert served(disabled, {"targetingKey": "x"}) == ("off", "DISABLED")


def test_the_first_rule_that_matches_decides() -> None:
    two = flag_of(
        rule("one", ("plan", "eq", "beta"), variant="on"), rule("two", ("plan", "in", ["beta", "x"]), on=10_000)
    )

    assert served(two, {"plan": "beta"}) == ("on", "TARGETING_MATCH")
    assert served(two, {"plan": "x", "targetingKey": "k"}) == ("on", "SPLIT")
    assert served(two, {"plan": "other"}) == ("off", "DEFAULT")


def test_all_conditions_of_a_rule_must_hold() -> None:
    both = flag_of(rule("r", ("a", "gt", 1), ("b", "lt", 1), variant="on"))

    assert served(both, {"a": 2, "b": 0}) == ("on", "TARGETING_MATCH")
    assert served(both, {"a": 2, "b": 1}) == ("off", "DEFAULT")
    assert served(both, {"a": 2}) == ("off", "DEFAULT")


@pytest.mark.parametrize(
    ("operator", "value", "given", "holds"),
    [
        ("eq", "x", "x", True),
        ("eq", "x", "X", False),
        ("eq", 1, 1.0, True),
        ("eq", 1, True, False),
        ("eq", True, True, True),
        ("eq", True, 1, False),
        ("eq", 1, "1", False),
        ("eq", 0, None, False),
        ("eq", "x", ["x"], False),
        ("in", ["a", 2, False], 2, True),
        ("in", ["a", 2, False], 0, False),
        ("in", ["a", 2, False], False, True),
        ("starts_with", "eu-", "eu-west", True),
        ("starts_with", "eu-", "us-east", False),
        ("starts_with", "1", 12, False),
        ("lt", 3, 2.9, True),
        ("lt", 3, 3, False),
        ("lt", 3, "2", False),
        ("lt", 3, True, False),
        ("gt", 3, 10**300, True),
        ("gt", 3, 3, False),
        ("gt", -1, False, False),
    ],
)
def test_operator_compares_values_of_the_same_type(operator: str, value: Any, given: Any, holds: bool) -> None:
    found = served(flag_of(rule("r", ("x", operator, value), variant="on")), {"x": given})

    assert found == (("on", "TARGETING_MATCH") if holds else ("off", "DEFAULT"))


def test_rule_can_match_the_targeting_key() -> None:
    named = flag_of(rule("r", ("targetingKey", "in", ["ann", "bob"]), variant="on"))

    assert served(named, {"targetingKey": "bob"}) == ("on", "TARGETING_MATCH")


@pytest.mark.parametrize("context", [{}, {"targetingKey": ""}, {"user": "x"}])
def test_a_split_needs_a_targeting_key(context: dict[str, Any]) -> None:
    with pytest.raises(TargetingKeyMissingError) as caught:
        evaluate(flag_of(rule(on=5_000, off=5_000)), context)
    assert caught.value.code == "targeting_key_missing"
    assert caught.value.problems[0][0] == "context.targetingKey"
    assert "'flag'" in caught.value.message


@pytest.mark.parametrize("key", [None, 3, True, ["a"], {}])
@pytest.mark.parametrize("is_enabled", [True, False])
def test_targeting_key_that_is_not_a_string_is_rejected(key: Any, is_enabled: bool) -> None:
    with pytest.raises(InvalidContextError):
        evaluate(flag_of(is_enabled=is_enabled), {"targetingKey": key})


def test_bucket_is_the_same_on_every_machine() -> None:
    # From `printf 'checkout\\0\\0user-1' | sha256sum`: 16 hex digits, modulo 10,000.
    assert [bucket("checkout", "", "user-1"), bucket("checkout", "s", "user-1"), bucket("k", "", "é")] == [
        9_688,
        7_455,
        3_459,
    ]


@given(TEXTS, TEXTS, TEXTS)
def test_bucket_is_below_ten_thousand_and_deterministic(key: str, salt: str, who: str) -> None:
    assert 0 <= bucket(key, salt, who) < ALL_BP
    assert bucket(key, salt, who) == bucket(key, salt, who)


@given(TEXTS.filter(bool))
def test_part_of_a_split_gets_exactly_as_many_buckets_as_its_weight(key: str) -> None:
    place = bucket("flag", "", key)
    context = {"targetingKey": key}

    assert served(split_flag([place, ALL_BP - place, 0, 0]), context) == ("b", "SPLIT")
    assert served(split_flag([place + 1, ALL_BP - place - 1, 0, 0]), context) == ("a", "SPLIT")
    # A part without weight gets no key, in front of the others too.
    assert served(split_flag([0, place, 0, ALL_BP - place]), context) == ("d", "SPLIT")


@settings(max_examples=20)
@given(weights(4), st.integers(0, 10_000))
def test_split_distributes_keys_by_its_weights(shares: list[int], first: int) -> None:
    version, people = split_flag(shares), 2_000
    counts = dict.fromkeys(NAMES, 0)
    for number in range(people):
        counts[served(version, {"targetingKey": f"p{first}-{number}"})[0]] += 1

    for name, share in zip(NAMES, shares, strict=True):
        p = share / ALL_BP
        # Six standard deviations: one in 5 * 10^8.
        assert abs(counts[name] - people * p) <= 6 * math.sqrt(people * p * (1 - p)) + 1e-9


@settings(max_examples=40)
@given(weights(4), st.integers(0, 3), st.data())
def test_growing_part_of_a_split_loses_no_key(shares: list[int], growing: int, data: st.DataObject) -> None:
    grown = list(shares)
    for index in range(4):
        if index != growing:
            taken = data.draw(st.integers(0, shares[index]))
            grown[index] -= taken
            grown[growing] += taken
    before, after = split_flag(shares), split_flag(grown)

    for number in range(300):
        context = {"targetingKey": f"p{number}"}
        if served(before, context)[0] == NAMES[growing]:
            assert served(after, context)[0] == NAMES[growing]


@settings(max_examples=20)
@given(st.integers(0, ALL_BP), st.integers(0, ALL_BP))
def test_ramp_moves_only_keys_towards_the_growing_part(one: int, other: int) -> None:
    low, high = sorted((one, other))
    moved = 0
    for number in range(300):
        context = {"targetingKey": f"p{number}"}
        before = served(split_flag([low, ALL_BP - low, 0, 0]), context)[0]
        after = served(split_flag([high, ALL_BP - high, 0, 0]), context)[0]
        assert (before, after) != ("a", "b")
        moved += before != after
    assert (moved == 0) or high > low


def test_different_flags_or_salts_split_independently() -> None:
    people = [f"p{number}" for number in range(4_000)]
    halves = [[bucket(key, salt, who) < 5_000 for who in people] for key, salt in (("a", ""), ("b", ""), ("a", "2"))]

    for other in halves[1:]:
        both = sum(one and two for one, two in zip(halves[0], other, strict=True))
        assert abs(both - 1_000) <= 6 * math.sqrt(4_000 * 0.25 * 0.75)


@given(documents(), st.dictionaries(TEXTS, JSON_VALUES, max_size=5), TEXTS.filter(bool))
def test_any_context_gets_the_same_variant_each_time(
    made: Document, context: dict[str, Any], targeting_key: str
) -> None:
    version = flag(FlagContent.model_validate(made))
    context = {**context, "targetingKey": targeting_key}

    found = evaluate(version, context)

    assert found == evaluate(version, dict(reversed(context.items())))
    assert found.value == made["variants"][found.variant]
    if not made["is_enabled"] or not made["rules"]:
        assert found.variant == made["default_variant"]
