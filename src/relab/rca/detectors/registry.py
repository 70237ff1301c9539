"""The descriptors of all failure categories.

A category is a member of `Category`. Its descriptor is `DESCRIPTOR` in the module of this package with the category's
name. If a category has no such module, importing this module fails.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from importlib import import_module
from types import MappingProxyType
from typing import Final

from relab.rca.detectors.descriptor import CategoryDescriptor
from relab.rca.detectors.problems import DetectedProblem
from relab.rca.evidence import RunView
from relab.rca.models import Category


def _load(category: Category) -> CategoryDescriptor:
    descriptor = getattr(import_module(f"{__package__}.{category}"), "DESCRIPTOR", None)
    if not isinstance(descriptor, CategoryDescriptor) or descriptor.category is not category:
        raise TypeError(f"detectors/{category}.py must define DESCRIPTOR, the CategoryDescriptor of {category!r}.")
    return descriptor


DESCRIPTORS: Final[Mapping[Category, CategoryDescriptor]] = MappingProxyType({item: _load(item) for item in Category})


def find_problems(view: RunView) -> Iterator[DetectedProblem]:
    """Yield the problems that the detectors of all categories find in a run."""
    for descriptor in DESCRIPTORS.values():
        yield from descriptor.detect(view)
