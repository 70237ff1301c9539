"""Rank the turns (innermost steps) of a run by its structure, if no model was trained on runs of its source (program).

The first rule that applies makes the first guess:

1. A successful tool call changed something: the first turn with such a call. What an agent reads or says can be
   corrected later, but a wrong change stays.
2. Executed code reported an error, or the run did not recover from a failed tool call: the turn that led to the first
   of these errors.
3. The run is not a dialogue, and one agent leads a team: the first turn of another agent.
4. The run is a dialogue with a user: the last turn of the agent. The same applies to a short run of one agent with
   tools.
5. Otherwise: the first answer to the task, usually the second turn.

Messages that an agent receives (of users, tools and system prompts) are not guessed, because the agent did not write
them. Exception: a run that consists of several such messages and of nothing else.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

from relab.rca.evidence import Quotation, RunView, quotable_field
from relab.rca.models import EvidenceKind
from relab.rca.ranking.guesses import CANDIDATES, Guess
from relab.rca.ranking.turns import Turn, coordinator_of, delegator_of, is_dialogue, with_changes
from relab.telemetry.models import ToolCall

SHORT_TURNS = 5
"""In a run of one agent with at most this many turns, the answer is the likeliest mistake."""

_FIRST_ERROR = "the first error in executed code or a tool call follows from this step"
_LAST = "it is the last step, with the result of the run"


class _Reason(NamedTuple):
    """Why a turn may be the first mistake.

    Attributes:
        words: the reason, as a sentence without its full stop.
        shown: quotations that show the reason, besides the text of the turn itself.
        explains_error: whether a later turn shows that the code or the tool call of this turn failed. The later turn
            has the output of executed code or of a tool.
        is_change: whether the turn changed something.
    """

    words: str
    shown: tuple[Quotation, ...] = ()
    explains_error: bool = False
    is_change: bool = False


def rank_by_rules(view: RunView, turns: Sequence[Turn]) -> tuple[Guess, ...]:
    """Return at most `CANDIDATES` guesses of the turn that went wrong first, in the order in which rules propose them.

    A turn is an innermost step. If several rules propose the same turn, it is one guess with several reasons. `turns`
    are the turns of the run in `view`.
    """
    found: dict[int, list[_Reason]] = {}
    for index, reason in _candidates(view, with_changes(view, turns)):
        if index in found or len(found) < CANDIDATES:
            found.setdefault(index, []).append(reason)
    calls = {placed.call.step_id: placed.call for placed in reversed(view.calls)}
    return tuple(_guess(turns[index], calls, reasons) for index, reasons in found.items())


def _candidates(view: RunView, turns: Sequence[Turn]) -> Iterator[tuple[int, _Reason]]:
    """Yield `(index of a turn, reason)` for turns that may be the first mistake, the most likely one first."""
    if len(turns) == 1:
        if not turns[0].is_given:
            yield 0, _Reason("it is the only step of the run")
        return
    is_in_dialogue = is_dialogue(view, turns)
    authors = [
        index for index, turn in enumerate(turns) if not (turn.is_given or (is_in_dialogue and turn.is_executor))
    ]
    authors = authors or list(range(len(turns)))
    changes = list(_changes(turns))
    yield from changes
    if changes:
        yield authors[-1], _Reason(_LAST)
    errors = [found for found in _error_sources(view, turns) if not turns[found[0]].is_given]
    yield from ((index, reason._replace(words=_FIRST_ERROR)) for index, reason in errors[:1])
    coordinator = None if is_in_dialogue else _leader_of(turns, authors)
    if coordinator is not None:
        actions = (index for index in authors if _is_action(turns[index], coordinator) and index > 0)
        for number, index in enumerate(actions, 1):
            which = "the first action" if number == 1 else f"action {number}"
            yield index, _Reason(f"it is {which} that the coordinator {coordinator!r} asked for")
    else:
        if is_in_dialogue or _is_short(view, turns, authors):
            yield authors[-1], _Reason(_LAST)
        yield from _reactions(turns, authors, is_in_dialogue=is_in_dialogue)
    yield from errors[1:]
    yield authors[-1], _Reason(_LAST)


def _leader_of(turns: Sequence[Turn], authors: Sequence[int]) -> str | None:
    """Return the name of the agent that leads a team of agents; None if there is no such agent.

    The leader is the agent that has the second turn and coordinates the team (`coordinator_of`). Without a coordinator,
    it is the agent that begins the run and hands out the work (`delegator_of`). `authors` are the indexes of the turns
    that agents wrote; only these turns and the first turn of the run are considered.
    """
    spoken = [turns[index] for index in dict.fromkeys((0, *authors))]
    return coordinator_of(spoken) or delegator_of(spoken)


def _calls_tools(view: RunView, turns: Sequence[Turn]) -> bool:
    return bool(view.calls) or any(turn.is_executor for turn in turns)


def _is_short(view: RunView, turns: Sequence[Turn], authors: Sequence[int]) -> bool:
    """Return whether a single agent wrote at most `SHORT_TURNS` turns, and the run has tool calls or executed code.

    `authors` are the indexes of the turns that agents wrote.
    """
    speakers = {turns[index].placed.step.agent_name or turns[index].speaker for index in authors}
    return len(speakers) == 1 and len(authors) <= SHORT_TURNS and _calls_tools(view, turns)


def _reactions(turns: Sequence[Turn], authors: Sequence[int], *, is_in_dialogue: bool) -> Iterator[tuple[int, _Reason]]:
    """Yield `(index of a turn, reason)` for the first answer to the task, and then for the first turn of an agent.

    `authors` are the indexes of the turns that agents wrote. The first answer is the first of these turns. In two cases
    it is the second one:

    - The run begins with a turn of an agent.
    - The run is not a dialogue, and other turns, such as outputs of tools, follow the first turn of an agent. This turn
      only requested the outputs.

    In a dialogue, a first turn without an input is a greeting. It is then yielded only if it is the first answer.
    """
    first, second = authors[0], authors[min(1, len(authors) - 1)]
    answers = second if first == 0 or (not is_in_dialogue and second > first + 1) else first
    yield answers, _Reason("it is the first answer to the task, on which the later steps build")
    if not is_in_dialogue or turns[first].placed.step.input_summary:
        yield first, _Reason("it begins the run, and all later steps build on it")


def _changes(turns: Sequence[Turn]) -> Iterator[tuple[int, _Reason]]:
    """Yield `(index of a turn, reason)` for the first turn that changed something, and for the last such turn."""
    changed = [(index, turn.change) for index, turn in enumerate(turns) if turn.change is not None]
    for which, (index, change) in zip(("first", "last"), (*changed[:1], *changed[1:][-1:]), strict=False):
        words = f"it is the {which} step that changed something, by the tool {change.tool!r}"
        yield index, _Reason(words, (change.shown,), is_change=True)


def _error_sources(view: RunView, turns: Sequence[Turn]) -> Iterator[tuple[int, _Reason]]:
    """Yield `(index of the turn that led to an error, reason)`, in order of time.

    An output is a turn that only has the output of executed code or of a tool (`Turn.is_executor`). There are two kinds
    of errors:

    - An output reports an error. The last turn before it that is not an output led to the error.
    - A tool call of a turn failed, the run did not recover from it, and the next turn is not an output. The turn with
      the call led to the error.
    """
    unrecovered = {failure.step_id for failure in view.call_failures if not failure.recovered}
    words = "a later error follows from this step"
    source = 0
    for index, turn in enumerate(turns):
        source = source if turn.is_executor else index
        if turn.is_executor and turn.reports_error and index > source:
            yield source, _Reason(words, (_quote(turn, {}),), explains_error=True)
        elif turn.placed.step.step_id in unrecovered and not (index + 1 < len(turns) and turns[index + 1].is_executor):
            yield source, _Reason(words)


def _is_action(turn: Turn, coordinator: str) -> bool:
    return turn.speaker != coordinator and not turn.is_executor


def _quote(turn: Turn, calls: Mapping[str | None, ToolCall]) -> Quotation:
    """Return a quotation of the beginning of a turn's text. If the turn has no text, quote its first tool call.

    `calls` is `{id of a step: its first tool call}`; each turn is a step.
    """
    call = calls.get(turn.placed.step.step_id)
    if turn.has_text or call is None:
        return Quotation(EvidenceKind.STEP, turn.placed.step, turn.field)
    return Quotation(EvidenceKind.TOOL_CALL, call, quotable_field(call, "args_json", "tool_name"))


def _guess(turn: Turn, calls: Mapping[str | None, ToolCall], reasons: Sequence[_Reason]) -> Guess:
    shown = (_quote(turn, calls), *(quotation for reason in reasons for quotation in reason.shown))
    return Guess(
        turn.placed,
        tuple(dict.fromkeys(reason.words for reason in reasons)),
        shown,
        explains_error=any(reason.explains_error for reason in reasons),
        is_change=any(reason.is_change for reason in reasons),
    )
