"""Runbooks for the valves of the small shop."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

CURE = 3
PARTS = {"a": "cache", "b": "database"}
"""Valves, and the dependency that fails if one does not stand as it should."""

_BOOK = """\
---
cause: valve_{part}_shut
title: The valve {part} is shut
risk: low
symptoms:
  - "the {name} fails because the valve {part} is shut"
looks: [service]
requires:
  - {{fact: dependency.{name}, is: failing}}
expects:
  - {{fact: dependency.{name}, is: failing, likely: 0.99, otherwise: 0.001}}
actions:
{actions}
mended:
  - {{fact: dependency.{name}, is: ok}}
---

Turn it.
"""


def write_books(folder: Path, turns: Sequence[int] = (CURE,), *, first_of: str | None = None) -> Path:
    """Write the runbooks of the valves, which turn them to one value after the other; return their folder.

    first_of: the first turn is of this valve, not of the one that is shut; the same action on the same part would count
        as the same attempt.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for part, name in PARTS.items():
        valves = [first_of or part, *(part for _ in turns[1:])]
        actions = "\n".join(
            f"  - {{action: turn_valve, parameters: {{component: {valve}, to: {turn}}}, why: It opens it.}}"
            for valve, turn in zip(valves, turns, strict=True)
        )
        (folder / f"valve_{part}_shut.md").write_text(_BOOK.format(part=part, name=name, actions=actions))
    return folder
