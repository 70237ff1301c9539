"""Find gaps: signs that parts of a run were not recorded.

A step that was not recorded may be the first mistake, but it cannot be ranked. Therefore a report on a run with gaps
marks no guess as the one that stands out.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from itertools import pairwise

from relab.rca.evidence import RunView
from relab.rca.ranking.turns import Turn

MAX_GAPS = 3
"""How many signs a report names."""

MIN_IN_ORDER = 0.5
"""Ids are taken for numbers of steps if at least this share of them is one more than the id before."""

_NUMBERED = re.compile(r"(?P<prefix>.*?)(?P<number>[0-9]{1,9})", re.DOTALL)
_EXIT_CODE = re.compile(r"exit ?code|exited with", re.IGNORECASE)
_MARKER_CHARS = 120
_ID_CHARS = 60
_CODE = "```"


def gaps_of(view: RunView, turns: Sequence[Turn]) -> tuple[str, ...]:
    """Return at most `MAX_GAPS` signs that parts of a run are missing, each as a sentence without its full stop.

    `turns` are the turns (innermost steps) of the run in order of time.
    """
    signs = (*_jumps(view), *_unknown_steps(view), *_results_without_code(turns))
    return signs[:MAX_GAPS]


def _jumps(view: RunView) -> Iterator[str]:
    """Yield a sentence for each jump in the numbers at the end of the step ids, such as from `step-3` to `step-7`.

    Steps and tool calls may be numbered together. Therefore a jump is ignored if the first or the last missing number
    is in the id of a tool call.

    Nothing is yielded unless all step ids differ only in a number at their end, and most numbers follow directly on
    another one (`MIN_IN_ORDER`).
    """
    ids = [placed.step.step_id for placed in view.steps]
    parts = [_NUMBERED.fullmatch(each) for each in ids]
    if len(ids) < 3 or any(part is None for part in parts):
        return
    prefixes = {part["prefix"] for part in parts if part}
    if len(prefixes) != 1:
        return
    (prefix,) = prefixes
    others = (_NUMBERED.fullmatch(placed.call.call_id) for placed in view.calls)
    # A recorder may number steps and calls together.
    taken = {int(part["number"]) for part in others if part and part["prefix"] == prefix}
    numbers = sorted({int(part["number"]) for part in parts if part})
    following = list(pairwise(numbers))
    if sum(after - before == 1 for before, after in following) < max(1.0, MIN_IN_ORDER * len(following)):
        return
    for before, after in following:
        between = after - before - 1
        if between and not any(number in taken for number in (before + 1, after - 1)):
            yield f"the numbers of the steps go from {before} to {after}"


def _unknown_steps(view: RunView) -> Iterator[str]:
    """Yield a sentence if steps have a parent step that the run does not contain.

    Yield another sentence if tool calls belong to a step that the run does not contain.
    """
    inside = sum(
        placed.step.parent_step_id is not None and view.step(placed.step.parent_step_id) is None
        for placed in view.steps
    )
    calls = sum(placed.call.step_id is not None and view.step(placed.call.step_id) is None for placed in view.calls)
    for count, kind in ((inside, "step"), (calls, "tool call")):
        if count:
            yield f"{count} {kind}{'s' if count > 1 else ''} belong{'' if count > 1 else 's'} to a step that the run does not have"


def _results_without_code(turns: Sequence[Turn]) -> Iterator[str]:
    """Yield a sentence for the first turn that has the output of executed code without this code; at most one sentence.

    The code is missing if no turn between this output and the previous output of executed code contains code. Only runs
    with code in Markdown fences are examined.
    """
    if not any(_CODE in turn.text for turn in turns):
        return
    # A turn with code counts for one report only.
    is_written = False
    for turn in turns:
        step = turn.placed.step
        if turn.is_executor and _EXIT_CODE.search(turn.text, 0, _MARKER_CHARS):
            if not is_written:
                yield f"step {step.step_id[:_ID_CHARS]!r} reports how code ran that no step before it contains"
                return
            is_written = False
        elif any(_CODE in text for text in (step.output_summary, step.input_summary) if text):
            is_written = True
