"""Recognise the source of a run, so that a model is only used for runs like those it was trained on.

A source is recognised by the words in the names of its agents, steps and tools. Names that all frameworks use say nothing.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence

from pydantic import BaseModel, ConfigDict

from relab.rca.ranking.units import Unit

GENERIC = frozenset(
    [
        "agent",
        "agents",
        "assistant",
        "user",
        "human",
        "system",
        "step",
        "steps",
        "turn",
        "turns",
        "llm",
        "chat",
        "tool",
        "tools",
        "model",
        "call",
        "message",
        "chain",
        "run",
        "task",
        "function",
        "output",
        "input",
        "result",
        "thought",
        "action",
        "observation",
        "ai",
        "bot",
        "main",
        "the",
        "and",
        "of",
        "to",
        "for",
    ]
)
CORE_SHARE = 0.9
"""A word that this share of the training runs have is expected of every run of the source."""

CORE_NEEDED = 2 / 3
"""The share of the expected words that a run must have."""

MIN_COVERAGE = 0.6
"""The share of the units of a run whose names must have a word of the source."""

LONGER = 3
"""A run with more than this many times the units of the longest training run is not like the training runs."""

_NAME_WORD = re.compile(r"[A-Z]{2,30}(?![a-z])|[A-Z]?[a-z]{2,30}")
_NAME_CHARS = 200


class Signature(BaseModel):
    """How runs of a source are recognised.

    Attributes:
        agents: names of agents (`agent_name` of a run) whose runs belong to the source, whatever its words are.
        core: words of which a run must have `CORE_NEEDED` in the names of its agents, steps and tools.
        words: words that the names of at least two training runs have, in order.
        max_units: the number of units of the longest training run.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    agents: tuple[str, ...] = ()
    core: tuple[str, ...] = ()
    words: tuple[str, ...] = ()
    max_units: int

    @property
    def limit(self) -> int:
        """The number of units of the longest run that belongs to the source."""
        return LONGER * self.max_units

    def matches(self, agent_name: str, units: Sequence[Unit]) -> bool:
        """Return whether a run of the agent `agent_name` with these units belongs to the source."""
        if len(units) > self.limit:
            return False
        if agent_name in self.agents:
            return True
        if not self.core:
            return False
        found = [name_words(unit) for unit in units]
        if len(set(self.core) & set().union(*found)) < CORE_NEEDED * len(self.core):
            return False
        known = set(self.words)
        return sum(not known.isdisjoint(words) for words in found) >= MIN_COVERAGE * len(units)


def name_words(unit: Unit) -> frozenset[str]:
    """Return the lower-case words of the names of a unit: of its agent, its step or its tool."""
    text = f"{unit.speaker[:_NAME_CHARS]} {unit.name[:_NAME_CHARS]}"
    return frozenset(word.lower() for word in _NAME_WORD.findall(text)) - GENERIC


def signature_of(runs: Sequence[Sequence[Unit]], agents: Sequence[str] = ()) -> Signature:
    """Return the signature of a source from the units of its training runs; `agents` are names that identify it."""
    counts: Counter[str] = Counter()
    for units in runs:
        counts.update(frozenset().union(*(name_words(unit) for unit in units)))
    return Signature(
        agents=tuple(sorted(set(agents))),
        core=tuple(sorted(word for word, count in counts.items() if count >= CORE_SHARE * len(runs))),
        words=tuple(sorted(word for word, count in counts.items() if count >= min(2, len(runs)))),
        max_units=max((len(units) for units in runs), default=0),
    )
