"""Rank the turns (innermost steps) of a run by its structure, if no model was trained on runs of its source (program).

The first rule that applies makes the first guess:

1. The turn with the first successful tool call that changed something. What an agent reads or says can be corrected
   later, but a wrong change stays.
2. The turn before the first reported error of executed code.
3. In a team with a coordinator, the first action: the first turn of another agent.
4. In a dialogue with a user, the last turn of the agent.
5. Otherwise, the second turn, which is the first reaction to the task.

The rules 2, 3 and 5 are the strict rule of `evals/rca/rules.py` and its equivalent for teams.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from relab.rca.evidence import Quotation, RunView
from relab.rca.models import EvidenceKind
from relab.rca.ranking.guesses import CANDIDATES, Guess
from relab.rca.ranking.turns import Turn, coordinator_of, is_dialogue, with_changes

_FIRST_ERROR = "the first error in executed code or a tool call follows from this step"
_LAST = "it is the last step, with the result of the run"


class _Reason(NamedTuple):
    """Why a turn may be the first mistake.

    Attributes:
        words: the reason, as a sentence without its full stop.
        shown: quotations that show the reason, besides the text of the turn itself.
        explains_error: whether the next turn, an executor's, reports that the turn's code or call failed.
        is_change: whether the turn changed something.
    """

    words: str
    shown: tuple[Quotation, ...] = ()
    explains_error: bool = False
    is_change: bool = False


def rank_by_rules(view: RunView, turns: Sequence[Turn]) -> tuple[Guess, ...]:
    """Return at most `CANDIDATES` guesses, in the order in which the rules propose them.

    If several rules propose the same turn, it is one guess with several reasons. `turns` are the turns of the run in
    `view`.
    """
    found: dict[int, list[_Reason]] = {}
    for index, reason in _candidates(with_changes(view, turns)):
        if index in found or len(found) < CANDIDATES:
            found.setdefault(index, []).append(reason)
    return tuple(_guess(turns[index], reasons) for index, reasons in found.items())


def quote_turn(turn: Turn) -> Quotation:
    """Return the beginning of a turn's text, as a quotation that evidence can cite."""
    return Quotation(EvidenceKind.STEP, turn.placed.step, turn.field)


def _candidates(turns: Sequence[Turn]) -> Iterator[tuple[int, _Reason]]:
    """Yield `(index of a turn, reason)` for turns that may be the first mistake, the most likely one first."""
    is_dialog = is_dialogue(turns)
    authors = [index for index, turn in enumerate(turns) if not (is_dialog and (turn.is_person or turn.is_executor))]
    last = authors[-1] if authors else len(turns) - 1
    changes = list(_changes(turns))
    yield from changes
    if changes:
        yield last, _Reason(_LAST)
    errors = list(_error_sources(turns))
    yield from ((index, reason._replace(words=_FIRST_ERROR)) for index, reason in errors[:1])
    coordinator = None if is_dialog else coordinator_of(turns)
    if coordinator is not None:
        actions = (index for index, turn in enumerate(turns) if _is_action(turn, coordinator) and index > 0)
        for number, index in enumerate(actions, 1):
            which = "the first action" if number == 1 else f"action {number}"
            yield index, _Reason(f"it is {which} that the coordinator {coordinator!r} asked for")
    else:
        if is_dialog:
            yield last, _Reason(_LAST)
        if len(turns) > 1:
            first = next((index for index in authors if index > 0), 1)
            yield first, _Reason("it is the first answer to the task, on which the later steps build")
            if not is_dialog:
                yield 0, _Reason("it begins the run, and all later steps build on it")
    yield from errors[1:]
    yield last, _Reason(_LAST)


def _changes(turns: Sequence[Turn]) -> Iterator[tuple[int, _Reason]]:
    """Yield `(index of a turn, reason)` for the first and the last turn that changed something."""
    changed = [(index, turn.change) for index, turn in enumerate(turns) if turn.change is not None]
    for which, (index, change) in zip(("first", "last"), (changed[0], changed[-1]) if changed else (), strict=False):
        words = f"it is the {which} step that changed something, by the tool {change.tool}"
        yield index, _Reason(words, (change.shown,), is_change=True)


def _error_sources(turns: Sequence[Turn]) -> Iterator[tuple[int, _Reason]]:
    """Yield `(index of the turn that led to an error, reason)`, in order of time."""
    words = "a later error follows from this step"
    for index, turn in enumerate(turns):
        if turn.is_executor and turn.reports_error and index > 0:
            yield index - 1, _Reason(words, (quote_turn(turn),), explains_error=True)
        elif turn.has_failed_call and not (index + 1 < len(turns) and turns[index + 1].is_executor):
            yield index, _Reason(words)


def _is_action(turn: Turn, coordinator: str) -> bool:
    return turn.speaker != coordinator and not turn.is_executor


def _guess(turn: Turn, reasons: Sequence[_Reason]) -> Guess:
    shown = (quote_turn(turn), *(quotation for reason in reasons for quotation in reason.shown))
    return Guess(
        turn.placed,
        tuple(dict.fromkeys(reason.words for reason in reasons)),
        shown,
        explains_error=any(reason.explains_error for reason in reasons),
        is_change=any(reason.is_change for reason in reasons),
    )
