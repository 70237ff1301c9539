"""The turns of a run: its innermost steps with their texts, which the rules and models of the ranking read."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Protocol

from relab.rca.evidence import PlacedStep, RunView, field_text, quotable_field

HEAD_CHARS = 2_000
TAIL_CHARS = 1_000
"""Only the start and the end of a longer text are read."""

MARKER_CHARS = 120
"""How far from the start of a text an executor reports its exit code."""

MIN_TURNS = 3
"""A run with fewer turns with text has no place to choose."""

_EXIT_CODE = re.compile(
    r"(?:exit ?code:|exit code was:|exited with(?: Unix)? exit code:) ?(?P<code>-?\d{1,9})", re.IGNORECASE
)
_ERROR_LINE = re.compile(
    r"Traceback \(most recent call last\)|^(?:Code output: ?)?\w{0,60}(?:Error|Exception)\b",
    re.MULTILINE | re.IGNORECASE,
)
_ERROR = re.compile(r"Traceback \(most recent call last\)|\b\w{0,60}(?:Error|Exception)\b|^error\b", re.MULTILINE)
_NAME = "name"
_EXECUTOR = re.compile(r"terminal|executor|interpreter|sandbox", re.IGNORECASE)


class Spoken(Protocol):
    """A step or tool call with its speaker, which is an agent or an executor of code."""

    @property
    def speaker(self) -> str:
        """The name of the agent; if it is not known, the name of the step or tool."""

    @property
    def is_executor(self) -> bool:
        """Whether the step or tool call only reports how code ran."""


@dataclass(frozen=True, slots=True)
class Turn:
    """One innermost step of a run.

    Attributes:
        placed: the step with its index.
        speaker: the agent of the step; if it is not known, the name of the step up to a bracket.
        field: the name of the field from which `text` was read.
        text: the step's output. A long output is cut to its first `HEAD_CHARS` and last `TAIL_CHARS` characters.
        is_executor: whether the turn only reports how code ran.
        reports_error: whether the text or the status of the step reports an error.
        has_failed_call: whether a tool call of the step failed.
    """

    placed: PlacedStep
    speaker: str
    field: str
    text: str
    is_executor: bool
    reports_error: bool
    has_failed_call: bool


def turns_of(view: RunView) -> tuple[Turn, ...]:
    """Return the turns of a run in order of time: its innermost steps, which contain no other steps."""
    outer = {placed.step.parent_step_id for placed in view.steps}
    failed = {failure.step_id for failure in view.call_failures}
    return tuple(_turn(placed, failed) for placed in view.steps if placed.step.step_id not in outer)


def are_rankable(turns: Sequence[Turn]) -> bool:
    """Return whether at least `MIN_TURNS` turns have a text. The name of a step is no text."""
    return sum(turn.field != _NAME and bool(turn.text.strip()) for turn in turns) >= MIN_TURNS


def coordinator_of(turns: Sequence[Spoken]) -> str | None:
    """Return the speaker (agent) that coordinates a team; None if there is no team or no coordinator.

    A team has at least three speakers. Its coordinator has the second turn and at least 40 % of all turns. At 90 % of
    the changes of speaker, the coordinator is the speaker before or after the change. Turns of executors of code are
    ignored.

    `turns` are in order of time.
    """
    speakers = [turn.speaker for turn in turns if not turn.is_executor]
    counts = Counter(speakers)
    if len(counts) < 3:
        return None
    name, count = counts.most_common(1)[0]
    changes = [pair for pair in pairwise(speakers) if pair[0] != pair[1]]
    led = sum(name in pair for pair in changes)
    coded = sum(turn.speaker == name and after.is_executor for turn, after in pairwise(turns))
    is_leading = count >= 0.4 * len(speakers) and led >= max(3, 0.9 * len(changes))
    # The first turn sets the task.
    takes_over = name == speakers[1] and name != speakers[0]
    return name if is_leading and takes_over and coded <= 0.25 * count else None


def _turn(placed: PlacedStep, failed: set[str | None]) -> Turn:
    step = placed.step
    field = quotable_field(step, "output_summary", "error_message", "input_summary", _NAME)
    full = field_text(step, field) or ""
    text = full if len(full) <= HEAD_CHARS + TAIL_CHARS else f"{full[:HEAD_CHARS]}\n{full[-TAIL_CHARS:]}"
    # Some teams add the recipient of the message to the name: "Orchestrator (-> WebSurfer)".
    speaker = step.agent_name or step.name.partition(" (")[0]
    exit_code = _EXIT_CODE.search(text, 0, MARKER_CHARS)
    return Turn(
        placed=placed,
        speaker=speaker,
        field=field,
        text=text,
        is_executor=exit_code is not None or _EXECUTOR.search(speaker) is not None,
        # Code that ended well may print the word "error", so that only a line that begins with one counts.
        reports_error=int(exit_code["code"]) != 0 or _ERROR_LINE.search(text) is not None
        if exit_code is not None
        else step.status == "failure" or _ERROR.search(text) is not None,
        has_failed_call=step.step_id in failed,
    )
