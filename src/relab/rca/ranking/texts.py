"""Read texts as sets of words, numbers and names, and recognise by typical words what an agent does in a text.

For example, an agent draws a conclusion or announces a future action.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Final

_TOKEN = re.compile(r"[^\W_]+(?:[.,'\u2019][^\W_]+)*")


@dataclass(frozen=True, slots=True)
class TextSign:
    """A sign that an agent does something in a text, such as draw a conclusion.

    It is a list of typical words and phrases, in lower case. A text shows the sign if it contains one of `words` or one
    of `phrases`.
    """

    words: frozenset[str] = frozenset()
    phrases: tuple[str, ...] = ()

    def is_in(self, words: set[str], text: str) -> bool:
        """Return whether a text contains one of the words or phrases of the sign.

        `words` are the words of `text`; both must be in lower case.
        """
        return not self.words.isdisjoint(words) or any(phrase in text for phrase in self.phrases)


def _sign(words: str = "", *phrases: str) -> TextSign:
    return TextSign(frozenset(words.split()), phrases)


SIGNS: Final = MappingProxyType(
    {
        "code": _sign("", "```", "def ", "import ", "<code>"),
        "question": _sign("", "?\n"),
        "assumes": _sign(
            "assume assumes assumed assuming assumption assumptions suppose supposed supposing simulate simulated simulating "
            "simulation hypothetical hypothetically placeholder likely probably typically",
            "for example",
            "based on my",
        ),
        "gives_up": _sign(
            "unable cannot can't couldn't doesn't sorry apologize apologies",
            "could not",
            "not possible",
            "no access",
            "not found",
            "did not",
        ),
        "concludes": _sign(
            "terminate therefore confirm confirms confirmed verified correct",
            "final answer",
            "final_answer",
            "in conclusion",
            "the answer is",
        ),
        "plans": _sign("plan let's", "step-by-step", "step by step", "next step", "i will", "we will", "we need to"),
        "asks": _sign("please", "could you", "can you"),
        "links": _sign("", "http://", "https://"),
        "error_word": _sign("error", "traceback", "exception"),
        "screenshot": _sign("screenshot viewport scrolled clicked typed"),
        "thought": _sign("", "thought:", "action:", "observation:", "reasoning:"),
    }
)

COUNTED: Final = MappingProxyType(
    {
        "checks": ("verif", "double-check", "confirm", "validat", "ensure", "accura", "correct"),
        "changes": (
            *("correct", "revis", "fix", "updat", "modif", "adjust", "refin", "alternativ"),
            *("another approach", "instead", "try again", "retry"),
        ),
        "by_hand": ("manual",),
    }
)
"""Beginnings of words, in lower case, whose occurrences in a text are counted."""

_PROMISES = ("i will", "i'll", "let me", "standby", "stand by", "report back", "please wait")
_CODE = re.compile(r"```[^`]*")
_LISTED = re.compile(r"[(\[{]([^()\[\]{}]*)[)\]}]")
_NUMBER = re.compile(r"(?<![\w.])[0-9][0-9.,]*")


@dataclass(slots=True)
class TextTokens:
    """The sets of words, numbers and names in a text.

    `words` has only words of at least four letters, in lower case.
    """

    words: set[str] = field(default_factory=set)
    numbers: set[str] = field(default_factory=set)
    names: set[str] = field(default_factory=set)

    @property
    def facts(self) -> set[str]:
        """The numbers and names in the text."""
        return self.numbers | self.names


def tokens_of(text: str) -> TextTokens:
    """Return the words, the numbers and the names of a text, in lower case.

    A number has at least two characters; points and commas at its end are left out. A word has at least four
    characters. A name has at least three, and begins with a capital letter in `text`. A name with at least four
    characters is also a word.
    """
    found = TextTokens()
    for token in set(_TOKEN.findall(text)):
        first = token[0]
        if first.isdigit():
            if len(token) > 1:
                found.numbers.add(token.rstrip(".,"))
            continue
        if len(token) > 2 and first.isupper():
            found.names.add(token.lower())
        if len(token) > 3:
            found.words.add(token.lower())
    return found


def count_of(name: str, lowered: str) -> int:
    """Return how often the strings in `COUNTED[name]` (beginnings of words) occur in the lower-case text `lowered`."""
    return sum(map(lowered.count, COUNTED[name]))


def is_promise(lowered: str) -> bool:
    """Return whether an agent announces a future action in the lower-case text `lowered`."""
    return any(phrase in lowered for phrase in _PROMISES)


def code_numbers(text: str) -> tuple[int, set[str]]:
    """Return `(how many numbers are in lists, set of all numbers)` for the code in a text.

    Code is the text between Markdown fences. A list is a text in brackets that has a comma and no other brackets.
    """
    code = "\n".join(_CODE.findall(text)[::2])
    listed = sum(len(_NUMBER.findall(part)) for part in _LISTED.findall(code) if "," in part)
    return listed, {number.rstrip(".,") for number in _NUMBER.findall(code)}


def has_sign(sign: str, text: str) -> bool:
    """Return whether a text shows a sign, such as `code` (it contains code) or `assumes` (it assumes something).

    `sign` is a name in `SIGNS`, which has the words and phrases of each sign.
    """
    return SIGNS[sign].is_in(tokens_of(text).words, f"{text.lower()}\n")


def overlap(one: set[str], other: set[str]) -> float:
    """Return the share (0 to 1) of the smaller set that is also in the other set; 0 if a set is empty."""
    small = min(len(one), len(other))
    return len(one & other) / small if small else 0.0


def jaccard(one: set[str], other: set[str]) -> float:
    """Return the Jaccard index of two sets: size of the intersection / size of the union; 0 if both are empty."""
    both = len(one & other)
    return both / (len(one) + len(other) - both) if both else 0.0
