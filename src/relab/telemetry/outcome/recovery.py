"""Decide from which of its errors a run recovered. No other module decides this.

A run recovered from a failed call in two cases:

- A later call with the same tool, agent and intent succeeded. If the later call began before the failed call ended, it
  is no new attempt, and must have equal arguments.
- The step that made the call failed too, and a later step with the same agent and name succeeded. No tool calls are
  reported for the later step; it is assumed to have repeated them.

A run recovered from a failed step if a later step with the same agent and name succeeded. After a failed model call,
any later successful model call of the same agent is enough.

The success of another agent is never a recovery.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import defaultdict
from collections.abc import Iterator, Sequence

from relab.telemetry.models import CALL, STEP
from relab.telemetry.outcome.activities import MODEL_ROLE, RunActivity
from relab.telemetry.outcome.intent import Arguments, arguments_of, is_related, is_same_intent, rejects_arguments

MAX_CANDIDATES = 40
"""The maximum number of later calls that are compared with a failed call: one half are the first ones, the other half the last ones."""

VALUES_PER_COMPARISON = 1_000
"""A comparison of two calls counts once more for each so many pairs of their values, because the spelling of each pair
may be compared."""

MAX_COMPARISONS = 4_000
"""At most so many comparisons per run, so that a run of 100,000 failed calls costs no minutes; after that only calls with
equal arguments count as the same intent. Failed calls at the end of the run are compared first."""


_SECOND_US = 1_000_000
_ROUNDING_US = 1_000


class RunRecovery:
    """Decides which failed steps and tool calls a run recovered from.

    Args:
        activities: the steps and calls of the run, in order of time (`activities.in_order`).
    """

    def __init__(self, activities: Sequence[RunActivity]) -> None:
        self.steps = [activity for activity in activities if activity.kind == STEP]
        self.calls = [activity for activity in activities if activity.kind == CALL]
        with_calls = {call.parent for call in self.calls}
        self._place_of_step = {step.ref_id: place for place, step in enumerate(self.steps)}
        self._last_good_step: dict[tuple[str | None, str], int] = {}
        self._last_bare_step: dict[tuple[str | None, str], int] = {}
        self._last_good_model: dict[str | None, int] = {}
        for place, step in enumerate(self.steps):
            if step.is_good:
                self._last_good_step[step.agent, step.name] = place
                if step.role == MODEL_ROLE:
                    self._last_good_model[step.agent] = place
                if step.ref_id not in with_calls:
                    self._last_bare_step[step.agent, step.name] = place
        self._arguments: dict[int, Arguments] = {}
        self.comparisons = 0
        self._good_by_tool: dict[tuple[str | None, str], list[int]] = defaultdict(list)
        self._good_by_agent: dict[str | None, list[int]] = defaultdict(list)
        self._last_equal: dict[tuple[str | None, str, str], int] = {}
        failed = [place for place, call in enumerate(self.calls) if call.has_error]
        if failed:
            self._index_good_calls()
        self._unrecovered = {place for place in reversed(failed) if not self._was_tried_again(place)}

    @property
    def unrecovered_calls(self) -> list[int]:
        """The indexes of the failed calls that the run did not recover from, in order of time."""
        return sorted(self._unrecovered)

    def call_was_recovered(self, place: int) -> bool:
        """Return whether the call at the index `place` in `calls` did not fail, or the run recovered from the error."""
        return place not in self._unrecovered

    def step_was_recovered(self, place: int) -> bool:
        """Return whether a later step succeeded in place of the step with the index `place` in `steps`.

        Both steps have the same agent. They also have the same name, or both are model calls.
        """
        step = self.steps[place]
        if self._last_good_step.get((step.agent, step.name), -1) > place:
            return True
        return step.role == MODEL_ROLE and self._last_good_model.get(step.agent, -1) > place

    def has_substitute(self, place: int) -> bool:
        """Return whether a later successful call of the same agent replaces the failed call at the index `place`.

        A call of another tool replaces the failed call if their arguments have much in common (`is_related`). A call of
        the same tool replaces the failed call if the tool rejected the failed call's arguments, and the two calls were
        not parallel (`_is_parallel`).
        """
        call = self.calls[place]
        again = _later(self._good_by_tool.get((call.agent, call.name), ()), place)
        if rejects_arguments(call) and any(not _is_parallel(call, self.calls[other]) for other in again):
            return True
        return any(
            is_related(self._arguments_at(place), self._arguments_at(other))
            for other in self._compared(self._good_by_agent.get(call.agent, ()), place)
            if self.calls[other].name != call.name
        )

    def _index_good_calls(self) -> None:
        for place, call in enumerate(self.calls):
            if call.is_good:
                self._good_by_tool[call.agent, call.name].append(place)
                self._good_by_agent[call.agent].append(place)
                fingerprint = self._arguments_at(place).fingerprint
                if fingerprint is not None:
                    self._last_equal[call.agent, call.name, fingerprint] = place

    def _was_tried_again(self, place: int) -> bool:
        call, failed = self.calls[place], self._arguments_at(place)
        if self._step_was_repeated(call.parent):
            return True
        if failed.fingerprint and self._last_equal.get((call.agent, call.name, failed.fingerprint), -1) > place:
            return True
        is_correction = rejects_arguments(call)
        return any(
            not _is_parallel(call, self.calls[other])
            and is_same_intent(failed, self._arguments_at(other), is_correction=is_correction)
            for other in self._compared(self._good_by_tool.get((call.agent, call.name), ()), place)
        )

    def _step_was_repeated(self, step_id: str | None) -> bool:
        """Return whether the step `step_id` failed, and a later successful step has the same agent and name.

        The later step must have no tool calls of its own. It is then assumed to have repeated the calls of the failed
        step without reporting them.
        """
        place = self._place_of_step.get(step_id or "")
        if place is None or not self.steps[place].has_error:
            return False
        step = self.steps[place]
        # The run lists no calls for this step, so it is assumed to have made the calls of the failed step again.
        return self._last_bare_step.get((step.agent, step.name), -1) > place

    def _compared(self, good: Sequence[int], place: int) -> Iterator[int]:
        """Yield the indexes of later successful calls with which a failed call is to be compared.

        At most `MAX_CANDIDATES` indexes are yielded (`_later`). The iteration ends when the run has had
        `MAX_COMPARISONS` comparisons, counted over all its failed calls.

        Args:
            good: the indexes of the successful calls to choose from, in order of time.
            place: the index of the failed call.
        """
        for other in _later(good, place):
            # The limit holds for all failed calls of the run together.
            if self.comparisons >= MAX_COMPARISONS:
                return
            pairs = len(self._arguments_at(place).values) * len(self._arguments_at(other).values)
            self.comparisons += 1 + pairs // VALUES_PER_COMPARISON
            yield other

    def _arguments_at(self, place: int) -> Arguments:
        known = self._arguments.get(place)
        if known is None:
            known = self._arguments[place] = arguments_of(self.calls[place])
        return known


def _is_parallel(failed: RunActivity, other: RunActivity) -> bool:
    """Return whether the call `other` began while the call `failed` was in progress, so that it is no new attempt.

    Rounded times can make a new attempt seem to begin before the failed call ended. So the result is False if `other`
    began at most a millisecond before the end of `failed`, or if the start of `other` is a whole second.
    """
    is_rounded = other.at_us % _SECOND_US == 0
    return not is_rounded and failed.at_us <= other.at_us < failed.end_us - _ROUNDING_US


def _later(places: Sequence[int], after: int) -> Sequence[int]:
    """Return the numbers in the ascending list `places` that are greater than `after`.

    If there are more than `MAX_CANDIDATES`, only the first and the last `MAX_CANDIDATES // 2` are returned.
    """
    first = bisect_right(places, after)
    if len(places) - first <= MAX_CANDIDATES:
        return places[first:]
    half = MAX_CANDIDATES // 2
    return [*places[first : first + half], *places[-half:]]
