"""Ids: generated ids sort by time, and ids from users are validated."""

from __future__ import annotations

import string
from urllib.parse import quote, unquote

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from relab.core.ids import MAX_ID_LENGTH, ExternalId, check_id, new_id

ALLOWED = st.text(st.characters(exclude_categories=["Cc", "Cs"], exclude_characters="/"), min_size=1, max_size=200)
CONTROLS = [*map(chr, range(32)), *map(chr, range(127, 160))]


@given(ALLOWED.filter(lambda text: text not in {".", ".."}))
def test_an_allowed_id_is_kept_as_it_is_and_fits_into_one_part_of_a_path(text: str) -> None:
    assert check_id(text) == text
    assert unquote(quote(text, safe="")) == text


@given(st.text(string.ascii_letters, max_size=50), st.sampled_from(["/", *CONTROLS]), st.text(max_size=50))
def test_a_slash_or_a_control_character_anywhere_is_refused(before: str, bad: str, after: str) -> None:
    with pytest.raises(ValueError, match="must not contain"):
        check_id(before + bad + after)


@pytest.mark.parametrize("text", [".", ".."])
def test_dot_segments_are_rejected(text: str) -> None:
    with pytest.raises(ValueError, match="URLs"):
        check_id(text)


@pytest.mark.parametrize(("length", "fits"), [(0, False), (1, True), (MAX_ID_LENGTH, True), (MAX_ID_LENGTH + 1, False)])
def test_the_length_counts_characters(length: int, fits: bool) -> None:
    if fits:
        assert check_id("ü" * length) == "ü" * length
    else:
        with pytest.raises(ValueError, match=f"1 to 200 characters, not {length}"):
            check_id("ü" * length)


def test_a_field_of_this_type_applies_the_rule() -> None:
    adapter = TypeAdapter(ExternalId)
    assert adapter.validate_python("run-1") == "run-1"
    with pytest.raises(ValidationError, match="'/'"):
        adapter.validate_python("a/b")


def test_generated_ids_are_unique_sorted_and_fit_their_column() -> None:
    ids = [new_id() for _ in range(2_000)]
    assert ids == sorted(set(ids))
    assert {len(own) for own in ids} == {36}
    assert all(check_id(own) == own for own in ids)
