"""Runbooks for the valves of the small shop."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

CURE = 3
PARTS = {"a": "cache", "b": "database"}
"""The valves, each with the dependency that fails while its position is wrong."""

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
    """Write a runbook per valve, which turns the valve to each of these positions in order; return their folder.

    first_of: the valve of the first action, if it is not the shut one; the same action on the same valve would count as
        the same attempt.
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
