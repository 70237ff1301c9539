"""Failure categories: each has one complete descriptor."""

from __future__ import annotations

from pathlib import Path

import pytest

from relab.rca.detectors import DESCRIPTORS, registry
from relab.rca.models import Category


@pytest.mark.parametrize("category", Category)
def test_category_has_a_complete_descriptor(category: Category) -> None:
    descriptor = DESCRIPTORS[category]

    assert descriptor.category is category
    assert descriptor.title == category.replace("_", " ").title()
    assert descriptor.cause
    assert descriptor.clause.format(subject="search")
    assert descriptor.checks
    assert descriptor.actions[0].priority == "high"
    assert set(descriptor.causes_by_detail.values()).isdisjoint({""})


@pytest.mark.parametrize("category", Category)
def test_names_of_a_category_are_recognised_in_the_sentence_of_a_model(category: Category) -> None:
    descriptor = DESCRIPTORS[category]

    assert descriptor.names.search(f"{descriptor.title} root cause".casefold())
    assert descriptor.names.search(f"the cause is {category.replace('_', ' ')}")


def test_descriptors_are_in_the_order_of_precedence() -> None:
    assert list(DESCRIPTORS) == list(Category)


def test_each_module_with_a_descriptor_is_a_category() -> None:
    folder = Path(registry.__file__).parent
    described = {path.stem for path in folder.glob("*.py") if "\nDESCRIPTOR = " in path.read_text()}

    assert described == set(Category)


def test_module_without_a_descriptor_is_rejected() -> None:
    with pytest.raises(TypeError, match=r"signs\.py .*DESCRIPTOR"):
        registry._load("signs")  # type: ignore[arg-type]
