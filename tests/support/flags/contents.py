"""Contents of flags: examples, and hypothesis strategies."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st

from relab.flags.models import ALL_BP, FlagContent

Document = dict[str, Any]


def document(**fields: Any) -> Document:
    """Return the JSON of a boolean flag without rules."""
    return {
        "value_type": "boolean",
        "variants": {"on": True, "off": False},
        "default_variant": "off",
        **fields,
    }


def content(**fields: Any) -> FlagContent:
    """Return a boolean flag without rules."""
    return FlagContent.model_validate(document(**fields))


def rule(name: str = "r", *conditions: tuple[str, str, Any], variant: str | None = None, **split_bp: int) -> Document:
    """Return a rule that serves a variant, or a split of these weights in their order."""
    return {
        "name": name,
        "conditions": [
            {"attribute": attribute, "op": operator, "value": value} for attribute, operator, value in conditions
        ],
        "serve": {"variant": variant}
        if variant is not None
        else {"split": [{"variant": part, "weight_bp": weight} for part, weight in split_bp.items()]},
    }


# Without surrogates and NUL, which strict JSON rejects.
TEXTS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=20)
NUMBERS = st.integers(-(2**63), 2**63) | st.floats(allow_nan=False, allow_infinity=False)
JSON_VALUES = st.recursive(
    st.none() | st.booleans() | NUMBERS | TEXTS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3),
    max_leaves=8,
)
VALUES: dict[str, st.SearchStrategy[Any]] = {
    "boolean": st.booleans(),
    "string": TEXTS,
    "number": NUMBERS,
    "object": st.dictionaries(TEXTS, JSON_VALUES, max_size=4),
}
SCALARS = TEXTS | NUMBERS | st.booleans()
CONDITIONS = st.one_of(
    st.fixed_dictionaries({"attribute": TEXTS.filter(bool), "op": st.just("eq"), "value": SCALARS}),
    st.fixed_dictionaries(
        {"attribute": TEXTS.filter(bool), "op": st.just("in"), "value": st.lists(SCALARS, min_size=1, max_size=4)}
    ),
    st.fixed_dictionaries({"attribute": TEXTS.filter(bool), "op": st.just("starts_with"), "value": TEXTS.filter(bool)}),
    st.fixed_dictionaries({"attribute": TEXTS.filter(bool), "op": st.sampled_from(["lt", "gt"]), "value": NUMBERS}),
)


@st.composite
def weights(draw: st.DrawFn, parts: int) -> list[int]:
    """Draw the weights of `parts` parts, which add up to the whole."""
    cuts = sorted(draw(st.lists(st.integers(0, ALL_BP), min_size=parts - 1, max_size=parts - 1)))
    return [end - start for start, end in zip([0, *cuts], [*cuts, ALL_BP], strict=True)]


@st.composite
def documents(draw: st.DrawFn) -> Document:
    """Draw the JSON of a valid flag content."""
    value_type = draw(st.sampled_from(sorted(VALUES)))
    names = draw(
        st.lists(st.from_regex(r"[a-zA-Z0-9][a-zA-Z0-9._-]{0,9}", fullmatch=True), min_size=1, max_size=4, unique=True)
    )
    rules = []
    for index in range(draw(st.integers(0, 3))):
        serve: Document = {"variant": draw(st.sampled_from(names))}
        if draw(st.booleans()):
            parts = draw(st.permutations(names))
            shares = draw(weights(len(parts)))
            serve = {"split": [{"variant": v, "weight_bp": w} for v, w in zip(parts, shares, strict=True)]}
        rules.append({"name": f"rule {index}", "conditions": draw(st.lists(CONDITIONS, max_size=3)), "serve": serve})
    return {
        "description": draw(TEXTS),
        "value_type": value_type,
        "variants": {name: draw(VALUES[value_type]) for name in names},
        "default_variant": draw(st.sampled_from(names)),
        "is_enabled": draw(st.booleans()),
        "salt": draw(st.from_regex(r"[a-z0-9]{0,8}", fullmatch=True)),
        "rules": rules,
    }
