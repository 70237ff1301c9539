"""Find steps with problems by rules. They are used if no model was trained on runs of the program that made the run.

Some rules trace a reported failure back to the step that caused it: the last step inside a failed step, or the step
before a failed execution. The other rules find signs of frequent problems that no error reports.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator, Sequence

from relab.rca.evidence import RunView
from relab.rca.ranking.texts import has_sign
from relab.rca.ranking.units import Unit, UnitKey
from relab.telemetry.models import StepStatus

MAX_UNITS = 2_000
"""Of a run with more units, only this number of its first units is read."""

MAX_PARTS = 4
"""A failed step with more parts than this does not show which of them failed."""

_ERROR = re.compile(r"\b(?:error|exception):|^[ \t]{0,8}(?:\w{0,40}error|traceback)\b", re.IGNORECASE | re.MULTILINE)


def problems_by_rules(view: RunView, units: Sequence[Unit]) -> tuple[tuple[Unit, tuple[str, ...]], ...]:
    """Return `(step, kinds of its problems)` for the steps in which the rules find a problem, in order of time.

    `units` are the run's steps and tool calls in order of time. A run that did not fail is examined only if it has
    nested steps; otherwise, the result is empty.
    """
    is_nested = any(placed.step.parent_step_id is not None for placed in view.steps)
    if not is_nested and not view.failed:
        return ()
    read = units[:MAX_UNITS]
    found: defaultdict[int, dict[str, None]] = defaultdict(dict)
    models = {index for index, unit in enumerate(read) if _is_model_call(unit)}
    # If a trace marks its model calls, its other innermost steps are hooks and tasks of a framework, which produce
    # nothing.
    authors = models or {index for index, unit in enumerate(read) if not unit.is_executor}
    for index, kind in (*_writers_of_failures(view, read), *_signs(read, max(authors, default=-1))):
        if index in authors:
            found[index][kind] = None
    return tuple((read[index], tuple(found[index])) for index in sorted(found))


def writers_of(view: RunView, units: Sequence[Unit]) -> dict[UnitKey, Unit]:
    """Return the writers of tool calls and failed steps, as `{key of the call or failed step: its writer}`.

    A writer is the step whose output probably led to the call or the failure. For a tool call, it is the last step
    before it in the same parent step. For a failed step, it is the last step inside it. `units` are the run's steps and
    tool calls in order of time.
    """
    found: dict[UnitKey, Unit] = {}
    last: dict[str | None, Unit] = {}
    for unit in units[:MAX_UNITS]:
        if not unit.is_call:
            last[unit.parent_id] = unit
        elif unit.parent_id in last:
            found[unit.key] = last[unit.parent_id]
    outer = {placed.step.step_id for placed in view.steps if placed.step.status == "failure"}
    written = {UnitKey(False, parent): unit for parent, unit in last.items() if parent is not None and parent in outer}
    return found | written


def _writers_of_failures(view: RunView, units: Sequence[Unit]) -> Iterator[tuple[int, str]]:
    """Yield `(index in units, kind of problem)` for the steps whose output led to a reported failure.

    Two kinds of steps are found:

    - the last step inside a failed step, if it did not fail itself, the failed step has at most `MAX_PARTS` steps, and
      none of them has steps or tool calls of its own,
    - the step directly before a failed execution of code, or directly before a failed tool call of another step.

    `units` are steps and tool calls in order of time.
    """
    parts: defaultdict[str | None, list[int]] = defaultdict(list)
    for index, unit in enumerate(units):
        if not unit.is_call:
            parts[unit.parent_id].append(index)
    outer = {unit.parent_id for unit in units}
    around = {placed.step.parent_step_id for placed in view.steps if placed.step.step_id in outer}
    for parent, inside in parts.items():
        if (
            parent is not None
            and parent not in around
            and len(inside) <= MAX_PARTS
            and units[inside[-1]].is_in_failed_step
            and not _has_failed(units[inside[-1]])
        ):
            yield inside[-1], "format_broken"
    for index, unit in enumerate(units[:-1]):
        after = units[index + 1]
        # The failure of a step's own call is a finding about this step already.
        is_own = after.is_call and after.step_id == unit.unit_id
        if not unit.is_executor and after.is_executor and after.reports_error and not is_own:
            yield index, "format_broken"


def _is_model_call(unit: Unit) -> bool:
    kind = (unit.source.model_extra or {}).get("span_kind")
    return not unit.is_call and isinstance(kind, str) and kind.lower() == "llm"


def _has_failed(unit: Unit) -> bool:
    """Return whether a unit (step or tool call) failed. Another detector reports failed units, so the rules do not."""
    return unit.source.status is StepStatus.FAILURE


def _signs(units: Sequence[Unit], last: int) -> Iterator[tuple[int, str]]:
    """Yield `(index of a step, kind of problem)` for the steps whose input or output shows a sign of a problem.

    `units` are the run's steps and tool calls in order of time; `last` is the index of the step that gives the final
    answer.
    """
    has_results = False
    for index, unit in enumerate(units):
        if unit.is_executor:
            has_results = True
            continue
        # If the last step got an error as its input, it reports this error to the user.
        if index != last and not _has_failed(unit) and _ERROR.search(unit.asked):
            yield index, "format_broken"
        if has_sign("code", unit.text):
            if has_sign("assumes", unit.text):
                yield index, "invented_fact"
            if not has_results and has_sign("concludes", unit.text):
                yield index, "goal_lost"
