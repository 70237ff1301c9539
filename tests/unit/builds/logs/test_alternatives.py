"""Alternatives: many patterns in one pass."""

from __future__ import annotations

import pytest

from relab.builds.logs.alternatives import Alternatives


@pytest.mark.parametrize(
    ("text", "index"),
    [("error: x", 0), ("error", 1), ("fatal: y", 1), ("note (a)", 2), ("an error", None), ("", None)],
)
def test_first_pattern_that_matches_at_the_start_is_found(text: str, index: int | None) -> None:
    # Two patterns match "error: x"; one has alternatives and one has a group of its own.
    assert Alternatives(["error: ", "error|fatal", r"note (\(.\))"]).first(text) == index
