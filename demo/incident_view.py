"""Show an incident in a terminal: its events as they happen, and its end.

All text from the responder is rendered with `as_data`, like reports, because it quotes log lines.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich import box
from rich.console import Group
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from demo.report_view import as_data, clipped
from demo.responder_client import Told

MAX_QUOTES = 3
MAX_QUOTE_LENGTH = 110
MAX_LINE_LENGTH = 300
_WHEN_WIDTH = 8
_STYLES = {
    "broken": "bold red",
    "detected": "bold yellow",
    "cause": "bold cyan",
    "act": "bold magenta",
    "verified": "bold green",
    "closed": "bold green",
    "a person": "bold red",
}
_WORDS = {
    "opened": "detected",
    "thought": "first guess",
    "looked": "looks",
    "diagnosed": "cause",
    "planned": "plan",
    "act_asked": "act",
    "act_finished": "act",
    "verified": "verified",
    "escalated": "a person",
    "failed": "trouble",
    "closed": "closed",
}
"""The kinds of events that are shown, with their labels."""
_WHAT_WIDTH = max(map(len, [*_STYLES, *_WORDS.values()]))


@dataclass(frozen=True)
class Ending:
    """How the incident ended.

    Attributes:
        cause: the cause that was injected.
        truth: why the shop is not repaired, from the `Breaker`; None if it is repaired.
        outcome: how the responder closed the incident; None if it is open.
        diagnosis: the cause that the responder named.
        probability: the responder's probability of that cause.
        acts: the responder's actions with their effects.
        badly_served_s: the seconds of bad service, weighted by the share of the requests.
        well_pct: the percentage of requests that were served well in the last seconds.
        detected_s, over_s: the seconds from the fault to its detection, and to the end of the incident.
        files: paths of the postmortem files.
    """

    cause: str
    truth: str | None
    outcome: str | None
    diagnosis: str | None
    probability: float | None
    acts: Sequence[str]
    badly_served_s: float
    well_pct: float | None
    detected_s: float
    over_s: float
    files: Sequence[Path]

    @property
    def problems(self) -> list[str]:
        """One sentence per failure of the responder; empty if it named the right cause and repaired the shop."""
        found = []
        if self.truth is not None:
            found.append(f"The shop is not mended: {self.truth}.")
        if self.outcome != "resolved":
            found.append(f"The responder did not mend it: the incident ended as {self.outcome or 'still open'}.")
        if self.diagnosis != self.cause:
            found.append(f"The cause was {self.cause}, the responder named {self.diagnosis or 'none'}.")
        return found


def event_lines(event: Told, at_s: float) -> Table | None:
    """Return a renderable that shows an event, or None for a kind of event that is not shown.

    `at_s` is the time of the event in seconds since the fault.
    """
    word = _WORDS.get(event.kind)
    if word is None:
        return None
    shown = line(word, _sentence(event), at_s)
    if event.kind == "diagnosed":
        for item in event.content.get("evidence", [])[:MAX_QUOTES]:
            shown.add_row("", "", _quotation(item))
    return shown


def line(word: str, sentence: str, at_s: float) -> Table:
    """Return a renderable of one line.

    Args:
        word: the label of the line.
        sentence: the text.
        at_s: the time in seconds since the fault.
    """
    grid = Table.grid(padding=(0, 2))
    grid.add_column(style="dim", justify="right", width=_WHEN_WIDTH)
    grid.add_column(no_wrap=True, width=_WHAT_WIDTH)
    grid.add_column(overflow="fold")
    grid.add_row(
        f"{at_s:.1f} s", Text(word, style=_STYLES.get(word, "bold")), as_data(clipped(sentence, MAX_LINE_LENGTH))
    )
    return grid


def _sentence(event: Told) -> str:
    if event.kind == "diagnosed":
        others = [item for item in event.content.get("candidates", [])[1:3] if item["probability"] >= 0.001]
        beside = ", ".join(f"{item['cause']} ({item['probability']:.3f})" for item in others)
        return f"{event.message} Next: {beside}." if others else event.message
    if event.kind == "planned" and event.content.get("ruling"):
        return f"{event.message} ({event.content['ruling']})"
    return event.message


def _quotation(item: Mapping[str, Any]) -> Text:
    text = as_data(str(item.get("evidence_id", "")), "cyan")
    text.append_text(as_data(f" {item.get('fact')} = {item.get('value')}, by {item.get('request')}: ", "dim"))
    return text.append_text(as_data(f"“{clipped(_said(str(item.get('verbatim', ''))), MAX_QUOTE_LENGTH)}”"))


def _said(verbatim: str) -> str:
    """Return the message of a log line in JSON; return any other text unchanged."""
    try:
        found = json.loads(verbatim)
    except ValueError:
        return verbatim
    return str(found["message"]) if isinstance(found, dict) and "message" in found else verbatim


def ending_panel(ending: Ending) -> Panel:
    """Return a panel of the end of an incident: the fault, the diagnosis and actions, and the service to the users."""
    grid = Table.grid(padding=(0, 2))
    grid.add_column(style="dim", no_wrap=True)
    grid.add_column(overflow="fold")
    probability = "" if ending.probability is None else f" ({ending.probability:.2f})"
    well = "nobody came" if ending.well_pct is None else f"{ending.well_pct:.0f} % served well in the last seconds"
    gone = "the leak is gone, and the chaos server has not ended it" if ending.truth is None else ending.truth
    grid.add_row("What was broken", as_data(ending.cause))
    grid.add_row("Cause named", as_data(f"{ending.diagnosis or 'none'}{probability}"))
    grid.add_row("Done", as_data("; ".join(ending.acts) or "nothing"))
    grid.add_row("Behind the scenes", as_data(gone))
    grid.add_row("Users", as_data(f"{well}; {ending.badly_served_s:.0f} s of bad service in all"))
    grid.add_row("Took", as_data(f"{ending.detected_s:.1f} s to detect, {ending.over_s:.1f} s until it was closed"))
    grid.add_row("Postmortem", Group(*(as_data(str(path), "bold") for path in ending.files)))
    colour = "red" if ending.problems else "green"
    return Panel(grid, title="The incident", title_align="left", border_style=colour, box=box.ROUNDED)
