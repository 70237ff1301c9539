"""The turns of a run: its innermost steps with their texts. Rules and models read them to rank the steps."""

from __future__ import annotations

import re
from bisect import bisect_right
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import groupby, pairwise
from typing import NamedTuple, Protocol

from relab.rca.evidence import (
    PlacedCall,
    PlacedStep,
    Quotation,
    RunView,
    field_text,
    is_good_call,
    is_person,
    quotable_field,
)
from relab.rca.models import EvidenceKind
from relab.rca.ranking.effects import changes_something, written_change
from relab.telemetry.models import Step

HEAD_CHARS = 2_000
TAIL_CHARS = 1_000
"""Only the start and the end of a longer text are read."""

MARKER_CHARS = 120
"""An executor of code reports its exit code within this number of characters from the start of a text."""

MIN_TURNS = 3
"""In a run of several turns with fewer turns with a text and tool calls, there is nothing to rank."""

_EXIT_CODE = re.compile(
    r"(?:exit ?code:|exit code was:|exited with(?: Unix)? exit code:) ?(?P<code>-?\d{1,9})", re.IGNORECASE
)
_ERROR_LINE = re.compile(
    r"Traceback \(most recent call last\)|^(?:Code output: ?)?\w{0,60}(?:Error|Exception)\b",
    re.MULTILINE | re.IGNORECASE,
)
_ERROR = re.compile(r"Traceback \(most recent call last\)|\b\w{0,60}(?:Error|Exception)\b|^error\b", re.MULTILINE)
_NAME = "name"
# A role, alone or before a bracket or colon. Longer names such as "Customer Support" and "Tool Expert" are of agents.
_EXECUTOR = re.compile(
    r"terminal|executor|interpreter|sandbox|\A(?:tool|function|environment) ?(?:[:(\[]|\Z)", re.IGNORECASE
)


class Spoken(Protocol):
    """A step or tool call with its speaker: an agent, or an executor (a tool, or a program that runs agents' code)."""

    @property
    def speaker(self) -> str:
        """The name of the agent; if it is not known, the name of the step or tool."""

    @property
    def is_executor(self) -> bool:
        """Whether the step or call only has the output of executed code or of a tool, not the words of an agent."""


class Change(NamedTuple):
    """A successful tool call that changed something, for example a call that cancelled an order.

    Attributes:
        tool: the name of the tool.
        shown: a quotation of the call, as evidence.
    """

    tool: str
    shown: Quotation


@dataclass(frozen=True, slots=True)
class Turn:
    """One innermost step of a run.

    Attributes:
        placed: the step with its index.
        speaker: the agent of the step; if it is not known, the name of the step up to the first ` (`.
        field: the name of the field from which `text` was read.
        text: the step's output; without an output, its error message, its input or its name. A long text is cut to its
            first `HEAD_CHARS` and last `TAIL_CHARS` characters.
        is_executor: whether the turn only has the output of executed code or of a tool.
        is_person: whether the turn is a message of the user.
        is_given: whether the turn is a message that an agent receives: from a user or a tool, or the system prompt.
        reports_error: whether the text or the status of the step reports an error.
        has_failed_call: whether a tool call of the step failed.
        change: the first successful tool call of the turn that changed something; None if there is no such call, or
            if `with_changes` has not set this field.
    """

    placed: PlacedStep
    speaker: str
    field: str
    text: str
    is_executor: bool
    is_person: bool
    is_given: bool
    reports_error: bool
    has_failed_call: bool
    change: Change | None = None

    @property
    def has_text(self) -> bool:
        """Whether the step has a text besides its name."""
        return self.field != _NAME and bool(self.text.strip())


def turns_of(view: RunView) -> tuple[Turn, ...]:
    """Return the turns of a run in order of time: its innermost steps, which contain no other steps.

    `Turn.change` is None in all of them; `with_changes` sets it.
    """
    outer = {placed.step.parent_step_id for placed in view.steps}
    failed = {failure.step_id for failure in view.call_failures}
    return tuple(_turn(placed, view, failed) for placed in view.steps if placed.step.step_id not in outer)


def with_changes(view: RunView, turns: Sequence[Turn]) -> tuple[Turn, ...]:
    """Return copies of the turns, with the first successful call that changed something in the field `change`.

    A tool call belongs to the turn of its step. If this step is not a turn, or is a message that an agent receives, the
    call belongs to the last turn of an agent that began before the call.

    If the run has no tool calls, calls that agents wrote as JSON into their texts are used instead. Such a call counts
    as successful unless the next turn is the output of code or of a tool and reports an error.
    """
    changes = _reported_changes(view, turns) if view.calls else _written_changes(turns)
    return tuple(replace(turn, change=changes.get(index)) for index, turn in enumerate(turns))


def is_dialogue(view: RunView, turns: Sequence[Turn]) -> bool:
    """Return whether a run is a dialogue: the user sent further messages after the task.

    Return True if at least two turns are messages of a user. A run may also record the user's messages only as inputs
    of steps. Therefore, in a run with tool calls and a single speaker, a turn counts as answered by the user if it has
    no tool call, and the next turn has a new input. Return True if at least two turns are answered.
    """
    if sum(turn.is_person for turn in turns) > 1:
        return True
    calling = {placed.call.step_id for placed in view.calls}
    if not calling or len({turn.speaker for turn in turns}) > 1:
        return False
    steps = [turn.placed.step for turn in turns]
    return sum(_is_answered(*pair) for pair in pairwise(steps) if pair[0].step_id not in calling) > 1


def _is_answered(step: Step, after: Step) -> bool:
    return after.input_summary not in (None, "", step.input_summary)


def are_rankable(turns: Sequence[Turn], calls: Sequence[PlacedCall]) -> bool:
    """Return whether the turns (innermost steps) of a run have enough content to choose between them.

    The number of turns that have a text or a tool call, plus the number of tool calls, must be at least `MIN_TURNS`.
    The name of a step does not count as a text. For a run with a single turn, another rule applies: return True if
    the turn has an output.
    """
    if len(turns) == 1:
        return turns[0].field == "output_summary" and turns[0].has_text
    calling = {placed.call.step_id for placed in calls}
    speaking = sum(turn.has_text or turn.placed.step.step_id in calling for turn in turns)
    return len(turns) > 1 and speaking + len(calls) >= MIN_TURNS


def coordinator_of(turns: Sequence[Spoken]) -> str | None:
    """Return the speaker (agent) that coordinates a team; None if there is no team or no coordinator.

    A team has at least three speakers. The coordinator is the speaker with the most turns, if all these conditions
    hold:

    - It has the second turn, does not have the first turn, and has at least 40 % of all turns.
    - A handover is two successive turns of different speakers. The coordinator is one of the two speakers in at least
      90 % of the handovers, and in at least three.
    - At most a quarter of its turns are directly followed by an output of executed code or of a tool.

    `turns` are in order of time. Outputs of executed code or of a tool (`is_executor`) count only for the last
    condition.
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
    # The first turn is the task itself.
    takes_over = name == speakers[1] and name != speakers[0]
    return name if is_leading and takes_over and coded <= 0.25 * count else None


def delegator_of(turns: Sequence[Spoken]) -> str | None:
    """Return the speaker (agent) that begins a run and hands out its work; None if there is no such speaker.

    A part is a series of turns of one speaker. The delegator has the first part, which has at least two turns, and
    every second part after it, including the last one. The parts of the other agents have at least two turns on
    average. This excludes discussions, in which the speaker changes after each turn.

    Outputs of executed code or of a tool (`is_executor`) are ignored. `turns` are in order of time.
    """
    parts = [(name, len(list(part))) for name, part in groupby(turn.speaker for turn in turns if not turn.is_executor)]
    own, others = parts[::2], parts[1::2]
    if not others or len(own) == len(others) or own[0][1] < 2 or any(name != own[0][0] for name, _ in own):
        return None
    return own[0][0] if sum(count for _, count in others) >= 2 * len(others) else None


def _reported_changes(view: RunView, turns: Sequence[Turn]) -> dict[int, Change]:
    """Return `{index of a turn: its first successful call that changed something}`, from the recorded tool calls."""
    agents = [index for index, turn in enumerate(turns) if not turn.is_given] or range(len(turns))
    index_of = {turns[index].placed.step.step_id: index for index in agents}
    starts = [turns[index].placed.step.started_at for index in agents]
    found: dict[int, Change] = {}
    for placed in view.calls:
        call = placed.call
        if changes_something(call.tool_name) and is_good_call(call):
            before = bisect_right(starts, placed.started_us)
            index = index_of.get(call.step_id or "", agents[before - 1] if before else None)
            shown = Quotation(EvidenceKind.TOOL_CALL, call, quotable_field(call, "args_json", "tool_name"))
            if index is not None:
                found.setdefault(index, Change(call.tool_name, shown))
    return found


def _written_changes(turns: Sequence[Turn]) -> dict[int, Change]:
    """Return `{index of a turn: call that changed something}`, for calls that agents wrote as JSON into their texts.

    A call is left out if the next turn is the output of code or of a tool and reports an error.
    """
    found: dict[int, Change] = {}
    for index, turn in enumerate(turns):
        tool = None if turn.is_given or turn.is_executor else written_change(turn.text)
        has_failed = index + 1 < len(turns) and turns[index + 1].is_executor and turns[index + 1].reports_error
        if tool is not None and not has_failed:
            found[index] = Change(tool, Quotation(EvidenceKind.STEP, turn.placed.step, turn.field))
    return found


def _turn(placed: PlacedStep, view: RunView, failed: set[str | None]) -> Turn:
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
        is_executor=exit_code is not None or _EXECUTOR.search(speaker) is not None or view.is_tool_result(step),
        is_person=is_person(speaker),
        is_given=view.is_received(step),
        # Code that ended well may print the word "error", so that only a line that begins with one counts.
        reports_error=int(exit_code["code"]) != 0 or _ERROR_LINE.search(text) is not None
        if exit_code is not None
        else step.status == "failure" or _ERROR.search(text) is not None,
        has_failed_call=step.step_id in failed,
    )
