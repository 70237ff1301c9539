"""Rank the turns (innermost steps) of a run by its structure, if no model was trained on runs of its source (program).

The first guess is the turn before the first reported error of executed code. If no error is reported, it is the first
action: in a team with a coordinator, the first turn of another agent; otherwise the second turn, which is the first
reaction to the task. These rules are the strict rule of `evals/rca/rules.py` and its equivalent for teams.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from relab.rca.evidence import Quotation
from relab.rca.models import EvidenceKind
from relab.rca.ranking.guesses import CANDIDATES, Guess
from relab.rca.ranking.turns import Turn, coordinator_of


def rank_by_rules(turns: Sequence[Turn]) -> tuple[Guess, ...]:
    """Return at most `CANDIDATES` guesses, in the order in which the rules propose them.

    If several rules propose the same turn, it is one guess with several reasons.
    """
    found: dict[int, list[tuple[str, tuple[int, ...]]]] = {}
    for index, reason, shown in _candidates(turns):
        if index in found or len(found) < CANDIDATES:
            found.setdefault(index, []).append((reason, shown))
    return tuple(_guess(turns, index, facts) for index, facts in found.items())


def quote_turn(turn: Turn) -> Quotation:
    """Return the beginning of a turn's text, as a quotation that evidence can cite."""
    return Quotation(EvidenceKind.STEP, turn.placed.step, turn.field)


def _candidates(turns: Sequence[Turn]) -> Iterator[tuple[int, str, tuple[int, ...]]]:
    """Yield `(index of a turn, reason, indexes of other turns)` for turns that may be the first mistake, best first.

    The other turns show the reason too.
    """
    errors = list(_error_sources(turns))
    for index, shown in errors[:1]:
        yield index, "the first error in executed code or a tool call follows from this step", shown
    coordinator = coordinator_of(turns)
    if coordinator is not None:
        actions = (index for index, turn in enumerate(turns) if _is_action(turn, coordinator) and index > 0)
        for number, index in enumerate(actions, 1):
            words = "the first action" if number == 1 else f"action {number}"
            yield index, f"it is {words} that the coordinator {coordinator!r} asked for", ()
    elif len(turns) > 1:
        yield 1, "it is the first answer to the task, on which the later steps build", ()
        yield 0, "it begins the run, and all later steps build on it", ()
    for index, shown in errors[1:]:
        yield index, "a later error follows from this step", shown
    yield len(turns) - 1, "it is the last step, with the result of the run", ()


def _error_sources(turns: Sequence[Turn]) -> Iterator[tuple[int, tuple[int, ...]]]:
    """Yield which turn led to an error, as `(index of the turn, indexes of the turns that report the error)`.

    The pairs are in order of time.
    """
    for index, turn in enumerate(turns):
        if turn.is_executor and turn.reports_error and index > 0:
            yield index - 1, (index,)
        elif turn.has_failed_call and not (index + 1 < len(turns) and turns[index + 1].is_executor):
            yield index, ()


def _is_action(turn: Turn, coordinator: str) -> bool:
    return turn.speaker != coordinator and not turn.is_executor


def _guess(turns: Sequence[Turn], index: int, facts: Sequence[tuple[str, tuple[int, ...]]]) -> Guess:
    shown = dict.fromkeys((index, *(number for _, numbers in facts for number in numbers)))
    return Guess(
        turns[index].placed,
        tuple(reason for reason, _ in facts),
        tuple(quote_turn(turns[number]) for number in shown),
        explains_error=len(shown) > 1,
    )
