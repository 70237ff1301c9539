"""Differences between two flag contents, listed by their path."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given

from relab.core.json import canonical_json
from relab.flags.diff import differences
from support.flags.contents import JSON_VALUES


def told(before: Any, after: Any) -> list[tuple[str, str]]:
    return [(item.path, item.change) for item in differences(before, after)]


@pytest.mark.parametrize(
    ("before", "after", "expected"),
    [
        ({"a": 1}, {"a": 1}, []),
        ({"a": 1}, {"a": 2}, [("/a", "changed")]),
        ({"a": 1}, {"a": 1.0}, [("/a", "changed")]),
        ({"a": 1}, {"a": True}, [("/a", "changed")]),
        ({"a": 1}, {"b": 1}, [("/a", "removed"), ("/b", "added")]),
        ({"a": [1, 2]}, {"a": [1, 3, 4]}, [("/a/1", "changed"), ("/a/2", "added")]),
        ({"a": [1, 2]}, {"a": [1]}, [("/a/1", "removed")]),
        ({"a": {"b": {}}}, {"a": {"b": []}}, [("/a/b", "changed")]),
        ({"a/b": {"~": 1}}, {"a/b": {"~": 2}}, [("/a~1b/~0", "changed")]),
        (1, 2, [("", "changed")]),
    ],
)
def test_differences_are_listed_by_place(before: Any, after: Any, expected: list[tuple[str, str]]) -> None:
    assert told(before, after) == expected


@given(JSON_VALUES, JSON_VALUES)
def test_equal_documents_have_no_difference(before: Any, after: Any) -> None:
    assert told(before, before) == []
    assert (told(before, after) == []) == (canonical_json(before) == canonical_json(after))


@given(JSON_VALUES, JSON_VALUES)
def test_reverse_difference_is_the_inverse(before: Any, after: Any) -> None:
    there = [(item.path, item.before, item.after) for item in differences(before, after)]
    back = [(item.path, item.after, item.before) for item in differences(after, before)]

    assert canonical_json(sorted(there, key=str)) == canonical_json(sorted(back, key=str))
