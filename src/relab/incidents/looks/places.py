"""Places in an answer, and the sightings made there. Pure; nothing that an answer holds makes it raise."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from relab.incidents.looks.models import Answer, Sighting
from relab.knowledge.models import FactValue

MOST: Final = 1e15
MOST_ROWS: Final = 500
MOST_WORD: Final = 100
MOST_TEXT: Final = 2_000
_MOST_VERBATIM: Final = 300
_MOST_SHOWN: Final = 8
"""Parts of a list or an object that are shown word for word; more would be cut anyway, and might be a great deal."""


@dataclass(frozen=True, slots=True)
class Place:
    """A value in the JSON of an answer; one that is not there is a place too.

    Attributes:
        value: None where there is nothing.
        pointer: as RFC 6901 writes it.
        answer: of which of the answers.
    """

    value: Any
    pointer: str = ""
    answer: int = 0

    def at(self, *keys: str) -> Place:
        """Return the place below, by the names of fields."""
        value, pointer = self.value, self.pointer
        for key in keys:
            value = value.get(key) if isinstance(value, Mapping) else None
            pointer = f"{pointer}/{_escaped(key)}"
        return Place(value, pointer, self.answer)

    def rows(self) -> list[Place]:
        """Return the objects of a list."""
        if not isinstance(self.value, Sequence) or isinstance(self.value, str):
            return []
        return [
            Place(item, f"{self.pointer}/{number}", self.answer)
            for number, item in enumerate(self.value[:MOST_ROWS])
            if isinstance(item, Mapping)
        ]

    def fields(self) -> list[tuple[str, Place]]:
        """Return the fields of an object by their names."""
        if not isinstance(self.value, Mapping):
            return []
        names = [str(name) for name in list(self.value)[:MOST_ROWS]]
        return [(name[:MOST_WORD], self.at(name)) for name in names]

    @property
    def is_list(self) -> bool:
        """Whether a list is there, be it an empty one."""
        return isinstance(self.value, list)

    @property
    def number(self) -> float | None:
        """The number that is there, if it is one that can be."""
        value = self.value
        if isinstance(value, bool) or not isinstance(value, int | float) or not -MOST <= value <= MOST:
            return None
        return float(value)

    @property
    def amount(self) -> float | None:
        """The number that is there, if it is not below zero."""
        found = self.number
        return found if found is not None and found >= 0 else None

    @property
    def word(self) -> str | None:
        """The word that is there; a long one is cut."""
        return self.value[:MOST_WORD] if isinstance(self.value, str) and self.value else None

    @property
    def text(self) -> str:
        """The text that is there, bounded; nothing where there is none."""
        return self.value[:MOST_TEXT] if isinstance(self.value, str) else ""

    @property
    def truth(self) -> bool | None:
        """The truth value that is there."""
        return self.value if isinstance(self.value, bool) else None

    @property
    def verbatim(self) -> str:
        """What is there as JSON, cut."""
        try:
            return json.dumps(_shown(self.value), ensure_ascii=False)[:_MOST_VERBATIM]
        except (ValueError, TypeError):
            return "(unreadable)"


class Findings:
    """Sightings in the making."""

    def __init__(self) -> None:
        self.sightings: list[Sighting] = []

    def see(self, fact: str, value: FactValue | None, place: Place) -> None:
        """Note what follows from a place; None is not noted."""
        if value is None or (isinstance(value, float) and not math.isfinite(value)):
            return
        self.sightings.append(Sighting(fact, value, place.answer, place.pointer, place.verbatim))

    def amount(self, fact: str, place: Place, most: float = MOST) -> None:
        """Note a number that is not below zero and not above `most`; any other cannot be, and is not noted."""
        found = place.amount
        self.see(fact, found if found is not None and found <= most else None, place)

    def word(self, fact: str, place: Place) -> None:
        """Note a word."""
        self.see(fact, place.word, place)

    def truth(self, fact: str, place: Place) -> None:
        """Note a truth value."""
        self.see(fact, place.truth, place)


def top(answers: Sequence[Answer], number: int) -> Place:
    """Return the place of a whole answer; nothing is there if there is no such answer."""
    return Place(answers[number].document if number < len(answers) else None, "", number)


def _escaped(key: str) -> str:
    return key.replace("~", "~0").replace("/", "~1")


def _shown(value: Any, depth: int = 3) -> Any:
    if isinstance(value, str):
        return value[:_MOST_VERBATIM]
    if isinstance(value, Mapping | list):
        if depth == 0:
            return "…"
        if isinstance(value, Mapping):
            return {str(name)[:MOST_WORD]: _shown(value[name], depth - 1) for name in list(value)[:_MOST_SHOWN]}
        return [_shown(item, depth - 1) for item in value[:_MOST_SHOWN]]
    return value
