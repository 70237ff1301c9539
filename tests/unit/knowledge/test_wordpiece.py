"""The WordPiece tokenizer: texts become the token numbers that the model was trained on."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relab.knowledge.wordpiece import WordPieces

VOCABULARY = [
    "[PAD]",
    "[UNK]",
    "[CLS]",
    "[SEP]",
    "lock",
    "##ed",
    "un",
    "##lock",
    "cafe",
    "$",
    "!",
    "[",
    "]",
    "sep",
    "中",
    "a",
]
PIECES = WordPieces(VOCABULARY)


def pieces(text: str, most: int = 20) -> list[str]:
    return [VOCABULARY[number] for number in PIECES.numbers(text, most)]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Locked", ["lock", "##ed"]),
        ("unlocked!", ["un", "##lock", "##ed", "!"]),
        ("CAFÉ", ["cafe"]),
        ("lock$lock", ["lock", "$", "lock"]),
        ("zebra lock", ["[UNK]", "lock"]),
        ("a中a", ["a", "中", "a"]),
        ("lo\u200bck\x00 \u00a0a\u2028a", ["lock", "a", "a"]),
        ("x" * 101, ["[UNK]"]),
        ("", []),
        # A special token's name in a text is data and not a special token.
        ("[SEP]", ["[", "sep", "]"]),
    ],
)
def test_text_is_split_into_tokens_of_the_vocabulary(text: str, expected: list[str]) -> None:
    assert pieces(text) == ["[CLS]", *expected, "[SEP]"]


def test_long_text_is_cut_and_keeps_its_end_token() -> None:
    assert pieces("lock " * 50, 5) == ["[CLS]", "lock", "lock", "lock", "[SEP]"]
    assert pieces("unlocked", 4) == ["[CLS]", "un", "##lock", "[SEP]"]


@given(text=st.text())
def test_any_text_gives_bounded_token_numbers_with_both_end_tokens(text: str) -> None:
    found = PIECES.numbers(text, 16)

    assert len(found) <= 16
    assert VOCABULARY[found[0]] == "[CLS]"
    assert VOCABULARY[found[-1]] == "[SEP]"


def test_vocabulary_without_special_tokens_is_rejected() -> None:
    with pytest.raises(KeyError, match="CLS"):
        WordPieces(["[UNK]", "[SEP]"])
