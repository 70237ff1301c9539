"""Texts as sets of words, numbers and names, and the signs of what they do."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Final

_TOKEN = re.compile(r"[^\W_]+(?:[.,'\u2019][^\W_]+)*")


@dataclass(frozen=True, slots=True)
class TextSign:
    """A sign in a text: one of some words, or one of some phrases, in lower case."""

    words: frozenset[str] = frozenset()
    phrases: tuple[str, ...] = ()

    def is_in(self, words: set[str], text: str) -> bool:
        """Return whether a text, given as its words and in lower case, has the sign."""
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


@dataclass(slots=True)
class TextTokens:
    """The sets of words of a text; `words` holds the lower-case ones with at least four letters."""

    words: set[str] = field(default_factory=set)
    numbers: set[str] = field(default_factory=set)
    names: set[str] = field(default_factory=set)

    @property
    def facts(self) -> set[str]:
        """The numbers and names."""
        return self.numbers | self.names


def tokens_of(text: str) -> TextTokens:
    """Return the words, numbers and names of a text; a number has at least two characters, a name three."""
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


def has_sign(sign: str, text: str) -> bool:
    """Return whether a text has the sign of a feature of texts, such as `code` or `assumes`."""
    return SIGNS[sign].is_in(tokens_of(text).words, f"{text.lower()}\n")


def overlap(one: set[str], other: set[str]) -> float:
    """Return the share of the smaller set that is in the other one; 0 if a set is empty."""
    small = min(len(one), len(other))
    return len(one & other) / small if small else 0.0


def jaccard(one: set[str], other: set[str]) -> float:
    """Return the share of both sets together that is in both; 0 if that is nothing."""
    both = len(one & other)
    return both / (len(one) + len(other) - both) if both else 0.0
