"""Split a text into the word pieces of BERT's uncased vocabulary. Pure.

The rules are those of `BertTokenizer` (Devlin et al. 2018, and the reference code's `tokenization.py`): clean the text,
convert it to lower case without accents, split it at blanks and punctuation, and split each word into the longest
pieces of the vocabulary.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator, Sequence
from typing import Final

_START, _END, _UNKNOWN = "[CLS]", "[SEP]", "[UNK]"
_MAX_WORD_LENGTH: Final = 100
_CHARS_OF_A_PIECE: Final = 40
"""How many characters of a text are read for each piece that is needed; the rest would be cut off anyway."""
_CHINESE: Final = (
    (0x4E00, 0x9FFF), (0x3400, 0x4DBF), (0x20000, 0x2A6DF), (0x2A700, 0x2B73F), (0x2B740, 0x2B81F), (0x2B820, 0x2CEAF),
    (0xF900, 0xFAFF), (0x2F800, 0x2FA1F),
)  # fmt: skip


class WordPieces:
    """Splits texts into the word pieces of a model's vocabulary, and gives the number of each piece.

    Args:
        vocabulary: all pieces, indexed by their numbers; a piece that continues a word begins with `##`.

    Raises:
        KeyError: the vocabulary lacks one of the special pieces `[CLS]`, `[SEP]`, `[UNK]`.
    """

    def __init__(self, vocabulary: Sequence[str]) -> None:
        self._numbers = {piece: number for number, piece in enumerate(vocabulary)}
        self._start, self._end = self._numbers[_START], self._numbers[_END]
        self._unknown = self._numbers[_UNKNOWN]

    def __len__(self) -> int:
        """Return the number of pieces in the vocabulary."""
        return len(self._numbers)

    def numbers(self, text: str, most: int) -> list[int]:
        """Return the numbers (places in the vocabulary) of `[CLS]`, of the pieces of a text, and of `[SEP]`.

        The result has at most `most` numbers; further pieces of the text are left out.
        """
        found = [self._start]
        for word in _words(text[: most * _CHARS_OF_A_PIECE]):
            found.extend(self._pieces(word))
            if len(found) >= most - 1:
                break
        return [*found[: most - 1], self._end]

    def _pieces(self, word: str) -> list[int]:
        if len(word) > _MAX_WORD_LENGTH:
            return [self._unknown]
        found, begin = list[int](), 0
        while begin < len(word):
            before = "##" if begin else ""
            ends = range(len(word), begin, -1)
            end = next((end for end in ends if before + word[begin:end] in self._numbers), None)
            if end is None:
                return [self._unknown]
            found.append(self._numbers[before + word[begin:end]])
            begin = end
        return found


def _words(text: str) -> Iterator[str]:
    for word in _cleaned(text).split():
        begin = 0
        for place, char in enumerate(plain := _plain(word)):
            if _is_punctuation(char):
                if plain[begin:place]:
                    yield plain[begin:place]
                yield char
                begin = place + 1
        if plain[begin:]:
            yield plain[begin:]


def _cleaned(text: str) -> str:
    """Return a text without invisible characters, and with a blank on either side of each Chinese character."""
    return "".join(_shown(char) for char in text)


def _shown(char: str) -> str:
    if char in "\t\n\r" or unicodedata.category(char) == "Zs":
        return " "
    if char == "\ufffd" or unicodedata.category(char).startswith("C"):
        return ""
    return f" {char} " if any(low <= ord(char) <= high for low, high in _CHINESE) else char


def _plain(word: str) -> str:
    return "".join(char for char in unicodedata.normalize("NFD", word.lower()) if unicodedata.category(char) != "Mn")


def _is_punctuation(char: str) -> bool:
    # In the reference, every ASCII character that is neither letter nor digit counts as punctuation, such as $ and ^.
    return (char.isascii() and not char.isalnum()) or unicodedata.category(char).startswith("P")
