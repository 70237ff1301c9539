"""The agent frameworks: one folder of `programs/` each, with a program, its pinned packages and `framework.toml`."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from rig.frameworks.cases import CASES

PROGRAMS = Path(__file__).with_name("programs")
_DESCRIPTION = "framework.toml"


@dataclass(frozen=True)
class Framework:
    """An agent framework with its instrumentation, as its `framework.toml` describes it.

    Attributes:
        folder: the name of its folder in `programs/` and among the fixtures, and its name in tables.
        title: its name and that of its instrumentation, for people.
        main: the file name of its program.
        has_tool_spans: whether tool calls have spans; if not, only the messages of model calls show them.
        is_light: whether it is installed in seconds; CI runs the programs of such frameworks.
        cannot: maps each case that it cannot run to the reason.
        also: the cases that it runs besides those that are common to all frameworks.
        lost: by case, facts that its telemetry does not show, which the search of `truth.facts_of` for their text
            cannot discover: such as the outcome, which has no text. They are named as in `not_in_trace`.
        environment: environment variables that only its program needs, by name.
    """

    folder: str
    title: str
    main: str = "program.py"
    has_tool_spans: bool = True
    is_light: bool = False
    cannot: Mapping[str, str] = field(default_factory=dict)
    also: Sequence[str] = ()
    lost: Mapping[str, Sequence[str]] = field(default_factory=dict)
    environment: Mapping[str, str] = field(default_factory=dict)

    @property
    def cases(self) -> list[str]:
        """The names of the cases that it runs, in the order of `CASES`."""
        return [
            name for name, case in CASES.items() if name in self.also or (case.is_common and name not in self.cannot)
        ]

    @property
    def is_node(self) -> bool:
        """Whether the program runs in Node.js."""
        return self.main.endswith(".mjs")


def frameworks() -> dict[str, Framework]:
    """Return all frameworks by the name of their folder, sorted."""
    return {
        path.parent.name: Framework(folder=path.parent.name, **tomllib.loads(path.read_text()))
        for path in sorted(PROGRAMS.glob(f"*/{_DESCRIPTION}"))
    }
