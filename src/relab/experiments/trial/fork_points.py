"""Choose the checkpoint of the parent (the trial that is forked) from which a fork begins. Pure functions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

from relab.experiments.errors import ForkInvalidError, SelectorUnmatchedError
from relab.experiments.trial.wire import Checkpoint

MAX_SELECTOR: Final = 1_000
_MAX_NUMBER: Final = 2**63 - 1
_SHOWN: Final = 10
_SHOWN_TEXT: Final = 60


@dataclass(frozen=True)
class Selector:
    """Selects the checkpoint that a fork begins from.

    Attributes:
        text: the selector as given, such as `step:7`.
        kind: `checkpoint` selects by name; `step` and `event_seq` select the last checkpoint at or before a number.
        name: the logical name or the path of the checkpoint; empty for the other kinds.
        number: the number of the step, or the `seq` of the event; 0 for the kind `checkpoint`.
    """

    text: str
    kind: Literal["checkpoint", "step", "event_seq"]
    name: str = ""
    number: int = 0

    def __str__(self) -> str:
        """Return the point at which a fork begins, in words: `step 7`, `event 12` or `the checkpoint <its name>`."""
        if self.kind == "checkpoint":
            return f"the checkpoint {self.name}"
        return f"{'step' if self.kind == 'step' else 'event'} {self.number}"


def parse_selector(text: str) -> Selector:
    """Parse the point at which a fork begins: `checkpoint:<name>`, `step:<n>` or `event_seq:<n>`.

    The name is the checkpoint's logical name, which the harness gave it, or its path. `step` and `event_seq` select the
    last checkpoint at or before this step or event.

    Raises:
        ForkInvalidError: the text has none of these forms, or its number is too large.
    """
    kind, _, value = text.partition(":")
    if kind == "checkpoint" and value and value.isprintable() and len(text) <= MAX_SELECTOR:
        return Selector(text, "checkpoint", name=value)
    if kind in {"step", "event_seq"} and value.isascii() and value.isdecimal():
        # Python refuses to convert texts of thousands of digits.
        number = int(value) if len(value) < MAX_SELECTOR else _MAX_NUMBER + 1
        if number > _MAX_NUMBER:
            raise ForkInvalidError(
                f"The number in {_shortened(text)!r} is too large.",
                remedy=f"Write {kind}:<number> with a number up to {_MAX_NUMBER}.",
            )
        return Selector(text, "step" if kind == "step" else "event_seq", number=number)
    raise ForkInvalidError(
        f"{text[:200]!r} is no selector.",
        remedy="Write checkpoint:<logical name or path>, step:<number> or event_seq:<number>.",
    )


def _shortened(text: str) -> str:
    return text if len(text) <= _SHOWN_TEXT else f"{text[:_SHOWN_TEXT]}…"


def choose(
    selector: Selector, checkpoints: Sequence[Checkpoint], events: Sequence[Mapping[str, Any]]
) -> Checkpoint | None:
    """Return the checkpoint that a selector selects; None if the parent's harness named no checkpoints.

    A step or an event selects the last checkpoint at or before it. A checkpoint belongs to a step; compared with an
    event, its position is that of the step's last event `agent_step_end`.

    Args:
        selector: which checkpoint: by its name, or the last one at or before a step or event.
        checkpoints: the checkpoints of the parent (the forked trial), oldest first.
        events: the events of the parent, in the order of their file.

    Raises:
        SelectorUnmatchedError: the parent ended before the step or event, or has no checkpoint at or before it, or has
            no checkpoint of the selected name.
    """
    ends = {event["step_index"]: event["seq"] for event in events if _ends_step(event)}
    if selector.kind == "checkpoint":
        return _named(selector, checkpoints)
    steps = {index: each.step for index, each in enumerate(checkpoints) if each.step is not None}
    if selector.kind == "step":
        last = max([*ends, *steps.values()], default=None)
        places = steps
    else:
        last = events[-1]["seq"] if events else None
        places = {index: ends[step] for index, step in steps.items() if step in ends}
    if last is not None and selector.number > last:
        raise SelectorUnmatchedError(
            f"{selector.text} is past the end: the last {'step' if selector.kind == 'step' else 'event'} is {last}."
        )
    if not checkpoints:
        return None
    fitting = [(place, index) for index, place in places.items() if place <= selector.number]
    if not fitting:
        first = f"the first one is at {min(places.values())}" if places else "no checkpoint has a known one"
        raise SelectorUnmatchedError(
            f"{selector.text} is before the first checkpoint: {first}.",
            remedy="Choose a later point, or a checkpoint by its name: checkpoint:<logical name or path>.",
        )
    return checkpoints[max(fitting)[1]]


def _named(selector: Selector, checkpoints: Sequence[Checkpoint]) -> Checkpoint | None:
    if not checkpoints:
        return None
    for field in ("logical_name", "path"):
        found = [each for each in checkpoints if getattr(each, field) == selector.name]
        if found:
            return found[-1]
    names = [each.name for each in checkpoints[-_SHOWN:]]
    raise SelectorUnmatchedError(
        f"There is no checkpoint {selector.name[:200]!r}.", remedy=f"The last ones are {', '.join(names)}."
    )


def _ends_step(event: Mapping[str, Any]) -> bool:
    return event["event_type"] == "agent_step_end" and type(event.get("step_index")) is int
