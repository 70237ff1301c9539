"""Recognise the source of a run (the program that made it), so that a model reads only runs like its training runs.

A source is recognised by the words in the names of its agents, steps and tools. Words that all frameworks use are
ignored. If a run has too few of these words, the source can be recognised by its opening instead. The opening is the
fixed text that the program writes before and after each task.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence

from pydantic import BaseModel, ConfigDict

from relab.rca.evidence import field_text
from relab.rca.ranking.units import Unit
from relab.telemetry.models import Step

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

OPENING_CHARS = 100_000
"""The number of characters of a text that are searched for an opening, which may contain a long task."""

OPENING_NEEDED = 0.9
"""The share of the lines of an opening that a text must have."""

MIN_LINES = 3
MAX_LINES = 20
"""The limits of the number of lines of an opening: a shorter one is not used, and a longer one is cut."""

MIN_TASKS = 5
"""Lines that the runs of fewer tasks have in common may be part of their tasks."""

_LINE_CHARS = 200
_WORDS = re.compile(r"[^\W\d_]{2}.*[\W_][^\W\d_]{2}")
_NAME_WORD = re.compile(r"[A-Z]{2,30}(?![a-z])|[A-Z]?[a-z]{2,30}")
_NAME_CHARS = 200


class Signature(BaseModel):
    """The features that identify runs of a source (a program that makes runs).

    They are computed from the training runs: the runs of the source on which a model was trained. A unit of a run is
    an innermost step or, if the model reads tool calls, a tool call.

    Attributes:
        agents: the names of the agents that identify the source; may be empty.
        core: words that occur in the names of agents, steps and tools of most training runs. If the agent of a run is
            not in `agents`, the run must have at least the share `CORE_NEEDED` of these words, or have the `opening`.
        words: words that occur in these names in at least two training runs, in alphabetical order.
        opening: the fixed lines that the program writes before and after the text of each task, in order; may be empty.
            A run has this opening if the input or output of its first unit begins with the first line and contains at
            least the share `OPENING_NEEDED` of all lines.
        max_units: the number of units of the longest training run.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    agents: tuple[str, ...] = ()
    core: tuple[str, ...] = ()
    words: tuple[str, ...] = ()
    opening: tuple[str, ...] = ()
    max_units: int

    @property
    def limit(self) -> int:
        """The largest number of units (steps and tool calls) that a run of this source (program) may have."""
        return LONGER * self.max_units

    def matches(self, agent_name: str, units: Sequence[Unit]) -> bool:
        """Return whether a run belongs to the source (the program that makes such runs).

        `agent_name` is the agent of the run. `units` are its innermost steps and, if the ranking model of the source
        reads tool calls, its tool calls.
        """
        if len(units) > self.limit:
            return False
        if agent_name in self.agents:
            return True
        found = [name_words(unit) for unit in units]
        has_core = bool(self.core) and len(set(self.core) & set().union(*found)) >= CORE_NEEDED * len(self.core)
        if not has_core and not self.is_opened(units):
            return False
        known = set(self.words)
        return sum(not known.isdisjoint(words) for words in found) >= MIN_COVERAGE * len(units)

    def is_opened(self, units: Sequence[Unit]) -> bool | None:
        """Return whether a run begins with the opening of its source; None if the source has no opening.

        A source is a program that makes runs. The opening is the fixed lines that the program writes before and after
        the text of each task. A run begins with the opening if the input or the output of its first unit begins with
        the first fixed line, and contains at least the share `OPENING_NEEDED` of all fixed lines. `units` are the steps
        and tool calls of the run.
        """
        if not self.opening:
            return None
        return any(
            text.startswith(self.opening[0])
            and sum(line in text for line in self.opening) >= OPENING_NEEDED * len(self.opening)
            for text in _first_texts(units)
        )


def name_words(unit: Unit) -> frozenset[str]:
    """Return the words in the names of a unit's agent and step or tool, in lower case and without `GENERIC` words."""
    text = f"{unit.speaker[:_NAME_CHARS]} {unit.name[:_NAME_CHARS]}"
    return frozenset(word.lower() for word in _NAME_WORD.findall(text)) - GENERIC


def signature_of(runs: Sequence[Sequence[Unit]], tasks: Sequence[str], agents: Sequence[str] = ()) -> Signature:
    """Return the signature of a source (a program that makes runs): the features by which its runs are recognised.

    Args:
        runs: the units (steps and tool calls) of each run.
        tasks: the task of each run, in the same order.
        agents: the names of agents that identify the source. If there are any, the signature has no `opening` (the
            lines that surround the task in the first text of each run), because the names are sufficient.
    """
    counts: Counter[str] = Counter()
    for units in runs:
        counts.update(frozenset().union(*(name_words(unit) for unit in units)))
    return Signature(
        agents=tuple(sorted(set(agents))),
        core=tuple(sorted(word for word, count in counts.items() if count >= CORE_SHARE * len(runs))),
        words=tuple(sorted(word for word, count in counts.items() if count >= min(2, len(runs)))),
        opening=() if agents else _opening_of(dict(zip(tasks, runs, strict=True))),
        max_units=max((len(units) for units in runs), default=0),
    )


def _opening_of(runs: Mapping[str, Sequence[Unit]]) -> tuple[str, ...]:
    """Return the fixed lines that a program writes before and after the text of each task, at most `MAX_LINES`.

    The result is empty if there are fewer than `MIN_LINES` such lines, or fewer than `MIN_TASKS` runs.
    Two texts of each run are read: the input and the output of its first unit (step or tool call). At least the share
    `CORE_SHARE` of the runs must have a text that begins with the same line. Of these texts, the lines are fixed that
    occur in the same share of the runs. `runs` is `{task: units of one run of this task}`.
    """
    if len(runs) < MIN_TASKS:
        return ()
    needed = CORE_SHARE * len(runs)
    by_first = [dict(_with_first_line(units)) for units in runs.values()]
    best: tuple[str, ...] = ()
    for first, count in Counter(first for found in by_first for first in found).items():
        if count >= needed:
            opened = [found[first] for found in by_first if first in found]
            shared = Counter(line for lines in opened for line in set(lines))
            chosen = [line for line in dict.fromkeys(opened[0]) if shared[line] >= needed]
            best = max(best, tuple(chosen[:MAX_LINES]), key=len)
    return best if len(best) >= MIN_LINES else ()


def _first_texts(units: Sequence[Unit]) -> Iterator[str]:
    """Yield the beginnings of the input and of the output of the first unit (step or tool call).

    Yield nothing if this unit only has the output of executed code or of a tool.
    """
    if not units or units[0].is_executor:
        return
    source = units[0].source
    asked = source.input_summary if isinstance(source, Step) else None
    for text in (asked, field_text(source, units[0].field)):
        yield (text or "")[:OPENING_CHARS].lstrip()


def _with_first_line(units: Sequence[Unit]) -> Iterator[tuple[str, list[str]]]:
    """Yield `(first line, all lines)` of the input and of the output of a run's first unit (step or tool call).

    Lines with fewer than two words are left out; so is a text that begins with such a line.
    """
    for text in _first_texts(units):
        lines = [line for line in (line.strip()[:_LINE_CHARS] for line in text.splitlines()) if _WORDS.search(line)]
        if lines and text.startswith(lines[0]):
            yield lines[0], lines
