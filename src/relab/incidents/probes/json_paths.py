"""Navigate the JSON of an answer and collect facts from it. Pure; no content of an answer raises an error."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from relab.incidents.probes.models import Observation, ProbeResponse
from relab.knowledge.models import FactValue

MAX_VALUE: Final = 1e15
MAX_ROWS: Final = 500
MAX_WORD: Final = 100
MAX_TEXT: Final = 2_000
_MAX_VERBATIM: Final = 300
_MAX_SHOWN: Final = 8
"""How many items of a list or an object are quoted; the rest would be cut anyway, and might be large."""


@dataclass(frozen=True, slots=True)
class JsonValue:
    """A value in the JSON of an answer, with its position; the value may be missing.

    Attributes:
        value: the value; None if it is missing.
        pointer: the position of the value, as a JSON Pointer (RFC 6901).
        answer: the index of the answer among the answers of a probe, from 0.
    """

    value: Any
    pointer: str = ""
    answer: int = 0

    def at(self, *keys: str) -> JsonValue:
        """Return the value at a path of field names below this value.

        If a field is missing, the result's `value` is None.
        """
        value, pointer = self.value, self.pointer
        for key in keys:
            value = value.get(key) if isinstance(value, Mapping) else None
            pointer = f"{pointer}/{_escaped(key)}"
        return JsonValue(value, pointer, self.answer)

    def rows(self, *, newest: bool = False) -> list[JsonValue]:
        """Return the objects in a list, each as a `JsonValue`; empty if this value is not a list.

        Only the first `MAX_ROWS` items of the list are read; with `newest`, the last `MAX_ROWS` items.
        """
        if not isinstance(self.value, Sequence) or isinstance(self.value, str):
            return []
        first = max(len(self.value) - MAX_ROWS, 0) if newest else 0
        return [
            JsonValue(item, f"{self.pointer}/{number}", self.answer)
            for number, item in enumerate(self.value[first : first + MAX_ROWS], first)
            if isinstance(item, Mapping)
        ]

    def fields(self) -> list[tuple[str, JsonValue]]:
        """Return names and values of an object's fields, at most `MAX_ROWS`; empty if the value is not an object."""
        if not isinstance(self.value, Mapping):
            return []
        names = [str(name) for name in list(self.value)[:MAX_ROWS]]
        return [(name[:MAX_WORD], self.at(name)) for name in names]

    @property
    def is_list(self) -> bool:
        """Whether the value is a list, possibly empty."""
        return isinstance(self.value, list)

    @property
    def number(self) -> float | None:
        """The value if it is a number within ±`MAX_VALUE`, else None."""
        value = self.value
        if isinstance(value, bool) or not isinstance(value, int | float) or not -MAX_VALUE <= value <= MAX_VALUE:
            return None
        return float(value)

    @property
    def amount(self) -> float | None:
        """The value if it is a number from 0 to `MAX_VALUE`, else None."""
        found = self.number
        return found if found is not None and found >= 0 else None

    @property
    def word(self) -> str | None:
        """The value if it is a non-empty text, cut to `MAX_WORD`; else None."""
        return self.value[:MAX_WORD] if isinstance(self.value, str) and self.value else None

    @property
    def text(self) -> str:
        """The value if it is a text, cut to `MAX_TEXT`; else an empty text."""
        return self.value[:MAX_TEXT] if isinstance(self.value, str) else ""

    @property
    def truth(self) -> bool | None:
        """The value if it is a boolean, else None."""
        return self.value if isinstance(self.value, bool) else None

    @property
    def verbatim(self) -> str:
        """The value as JSON, cut to 300 characters."""
        try:
            return json.dumps(_shown(self.value), ensure_ascii=False)[:_MAX_VERBATIM]
        except (ValueError, TypeError):
            return "(unreadable)"


class FactCollector:
    """Collects the facts of a probe in the list `sightings`; each fact has its position in an answer."""

    def __init__(self) -> None:
        self.sightings: list[Observation] = []

    def see(self, fact: str, value: FactValue | None, place: JsonValue) -> None:
        """Add a fact with its value, and with the JSON value that is cited as its evidence (`place`).

        The fact is ignored if its value is None or not finite.
        """
        if value is None or (isinstance(value, float) and not math.isfinite(value)):
            return
        self.sightings.append(Observation(fact, value, place.answer, place.pointer, place.verbatim))

    def amount(self, fact: str, place: JsonValue, most: float = MAX_VALUE) -> None:
        """Add a fact whose value is the number in `place`, with `place` as its evidence.

        Numbers below 0 or above `most`, and other types, are ignored.
        """
        found = place.amount
        self.see(fact, found if found is not None and found <= most else None, place)

    def word(self, fact: str, place: JsonValue) -> None:
        """Add a fact whose value is the text in `place`, with `place` as its evidence.

        An empty text and other types are ignored.
        """
        self.see(fact, place.word, place)

    def truth(self, fact: str, place: JsonValue) -> None:
        """Add a fact whose value is the boolean in `place`, with `place` as its evidence; ignore any other type."""
        self.see(fact, place.truth, place)


def root_of(answers: Sequence[ProbeResponse], number: int) -> JsonValue:
    """Return the whole JSON of the answer with the index `number`, as a `JsonValue` (a value with its position).

    If there is no answer with this index, the `value` of the returned object is None.
    """
    return JsonValue(answers[number].document if number < len(answers) else None, "", number)


def _escaped(key: str) -> str:
    return key.replace("~", "~0").replace("/", "~1")


def _shown(value: Any, depth: int = 3) -> Any:
    if isinstance(value, str):
        return value[:_MAX_VERBATIM]
    if isinstance(value, Mapping | list):
        if depth == 0:
            return "…"
        if isinstance(value, Mapping):
            return {str(name)[:MAX_WORD]: _shown(value[name], depth - 1) for name in list(value)[:_MAX_SHOWN]}
        return [_shown(item, depth - 1) for item in value[:_MAX_SHOWN]]
    return value
