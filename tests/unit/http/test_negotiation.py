"""Content negotiation: which media type a client gets for its `Accept` header."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relab.http.negotiation import preferred

OFFERED = ["text/markdown", "text/html", "application/json"]


@pytest.mark.parametrize(
    ("accept", "media"),
    [
        (None, "text/markdown"),
        ("", "text/markdown"),
        ("*/*", "text/markdown"),
        ("text/*", "text/markdown"),
        ("text/html", "text/html"),
        ("TEXT/HTML", "text/html"),
        ("text/html, application/json;q=0.9", "text/html"),
        ("application/json; charset=utf-8", "application/json"),
        ("text/markdown;q=0, */*", "text/html"),
        ("text/*;q=0.2, application/json;q=0.3", "application/json"),
        ("text/html;q=nonsense, application/json;q=0.1", "application/json"),
        ("image/png, nonsense", "text/markdown"),
    ],
)
def test_preferred_media_type_is_chosen(accept: str | None, media: str) -> None:
    assert preferred(accept, OFFERED) == media


@given(st.text(max_size=200) | st.text("/*;,=q0.1 nath", max_size=200))
def test_any_header_gives_one_of_the_offered_types(accept: str) -> None:
    assert preferred(accept, OFFERED) in OFFERED
