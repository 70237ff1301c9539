"""Distinguish flaky tests from broken ones by their outcomes in earlier builds. The functions are pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from itertools import pairwise
from typing import Final, TypeAlias

from relab.builds.models import BuildTestOutcome

_CHANCE: Final = 0.01
"""A streak of equal outcomes shows a lasting change if its probability is lower than this for an unstable test."""
_UNSTABLE_CHANGES: Final = 3
"""After this number of changes of the outcome (passed, failed, passed, failed), a further change says little."""


class HistoryStatus(StrEnum):
    """The status of a test, such as flaky or broken, judged by the outcomes of the test in earlier builds."""

    FLAKY = "flaky"
    """The test both failed and passed for one input (what was built, such as a commit)."""
    BROKEN = "broken"
    """It passed, and has failed in each build since."""
    FAILING = "failing"
    """It failed in each build of the history."""
    CHANGING = "changing"
    """Its outcome changes from build to build, and for no input (what was built) are both outcomes known."""
    FIXED = "fixed"
    """It failed, and has passed in each build since."""
    STABLE = "stable"
    """It never failed."""


@dataclass(frozen=True, slots=True)
class ObservedOutcome:
    """The outcome of a test in one build.

    Attributes:
        build_id: the id of the build.
        started_at: when the build started, in microseconds since 1970.
        input: identifies what was built (such as the commit) and the settings of the build; None if unknown. A test
            with different outcomes for the same input is flaky.
        lane: identifies a sequence of comparable builds, such as builds with the same job, configuration and branch.
            An outcome is compared with earlier outcomes of the same lane.
        outcome: `passed` or `failed`; `flaky` if the test both failed and passed in this build.
        is_inferred: True if the log does not name the test. The test then counts as passed, because the build
            succeeded.
    """

    build_id: str
    started_at: int
    input: str | None
    lane: str
    outcome: BuildTestOutcome
    is_inferred: bool = False


@dataclass(frozen=True, slots=True)
class HistoryVerdict:
    """The status of one test, judged by its outcomes in earlier builds.

    Attributes:
        status: the status, such as flaky or broken.
        evidence: the one or two builds that show the status, the earlier one first. For `flaky`: two builds of one
            input, or one build with both outcomes. For `broken`: the last pass and the first failure after it. For
            `failing`: the first and the last failure. For `fixed`: the last failure and the first pass after it. For
            `changing`: the last pass and the last failure. Empty for `stable`.
        streak: how many of the newest builds in a row have the same outcome of the test. Only builds of one lane
            (comparable builds, such as those with the same job, configuration and branch) are counted.
        was_flaky: whether the test has both failed and passed for the same input.
    """

    status: HistoryStatus
    evidence: tuple[ObservedOutcome, ...] = ()
    streak: int = 0
    was_flaky: bool = False


_Evidence: TypeAlias = tuple[ObservedOutcome, ...]
_URGENCY: Final = tuple(HistoryStatus)
"""A test that is judged differently in several lanes has the first of these statuses."""


def judge(observations: Iterable[ObservedOutcome]) -> HistoryVerdict:
    """Judge a test by its outcomes in builds of one project: is it flaky, broken, failing, changing, fixed or stable?

    - flaky: the test both failed and passed for the same input.
    - broken: it passed earlier, and its newest outcomes are failures.
    - failing: it has never passed.
    - changing: its outcome changed several times, but no input is known with both outcomes.
    - fixed: it failed earlier, and its newest outcomes are passes.
    - stable: it has never failed.

    The test is judged in each lane (comparable builds, such as those with the same job, configuration and branch). If
    the statuses differ, the first one in this list is returned. Outcomes of skipped tests are ignored.

    A flaky or changing test becomes broken or fixed only after a long streak of equal outcomes. A streak is long if its
    probability, estimated from the earlier outcomes, is below 1 %.

    Args:
        observations: the outcomes of the test in any order.
    """
    ordered = sorted(
        (each for each in observations if each.outcome is not BuildTestOutcome.SKIPPED),
        key=lambda each: (each.started_at, each.build_id),
    )
    proof = _flaky_evidence(ordered)
    lanes: dict[str, list[ObservedOutcome]] = {}
    for each in ordered:
        lanes.setdefault(each.lane, []).append(each)
    verdicts = [_judge_lane(lane, ordered, proof) for lane in lanes.values()]
    if not verdicts:
        return HistoryVerdict(HistoryStatus.STABLE)
    # Of several lanes with one status, the one with the newest build is reported.
    newest_first = sorted(
        zip(verdicts, lanes.values(), strict=True), key=lambda each: each[1][-1].started_at, reverse=True
    )
    return min((verdict for verdict, _ in newest_first), key=lambda each: _URGENCY.index(each.status))


def _judge_lane(
    lane: Sequence[ObservedOutcome], all_lanes: Sequence[ObservedOutcome], proof: _Evidence
) -> HistoryVerdict:
    last = lane[-1]
    streak = 0 if last.outcome is BuildTestOutcome.FLAKY else _streak(lane)
    earlier = lane[: len(lane) - streak]
    is_unstable = bool(proof) or _changes(lane) >= _UNSTABLE_CHANGES
    if is_unstable and _is_chance(earlier, last.outcome, streak):
        status = HistoryStatus.FLAKY if proof else HistoryStatus.CHANGING
        return HistoryVerdict(status, proof or _last_of_both(lane), streak, bool(proof))
    first = lane[-streak]
    if last.outcome is BuildTestOutcome.FAILED:
        passed = [each for each in earlier or all_lanes if _is_pass(each) and _precedes(each, first)]
        if passed:
            return HistoryVerdict(HistoryStatus.BROKEN, (passed[-1], first), streak, bool(proof))
        return HistoryVerdict(HistoryStatus.FAILING, _two(first, last), streak, bool(proof))
    failed = [each for each in earlier if each.outcome is not BuildTestOutcome.PASSED]
    if failed:
        return HistoryVerdict(HistoryStatus.FIXED, (failed[-1], first), streak, bool(proof))
    return HistoryVerdict(HistoryStatus.STABLE, (), streak, bool(proof))


def _flaky_evidence(ordered: Sequence[ObservedOutcome]) -> _Evidence:
    """Return the newest evidence that a test is flaky.

    If the test both failed and passed in one build, the evidence is `(outcome,)`. Otherwise it is `(earlier, later)`:
    two outcomes that differ, although their builds have the same input (what was built, such as a commit). Without
    evidence, the tuple is empty.

    Args:
        ordered: the outcomes of the test, oldest first.
    """
    newest: dict[tuple[str, BuildTestOutcome], ObservedOutcome] = {}
    found: list[_Evidence] = []
    for each in ordered:
        if each.outcome is BuildTestOutcome.FLAKY:
            found.append((each,))
        elif each.input is not None:
            other = BuildTestOutcome.PASSED if each.outcome is BuildTestOutcome.FAILED else BuildTestOutcome.FAILED
            different = newest.get((each.input, other))
            if different is not None:
                found.append((different, each))
            newest[each.input, each.outcome] = each
    return found[-1] if found else ()


def _streak(lane: Sequence[ObservedOutcome]) -> int:
    count = 0
    for each in reversed(lane):
        if each.outcome is not lane[-1].outcome:
            break
        count += 1
    return count


def _changes(lane: Sequence[ObservedOutcome]) -> int:
    return sum(before.outcome is not after.outcome for before, after in pairwise(lane))


def _is_chance(earlier: Sequence[ObservedOutcome], outcome: BuildTestOutcome, streak: int) -> bool:
    """Return whether a streak of equal outcomes may be chance: its probability is at least 1 %.

    Args:
        earlier: the outcomes before the streak; they are used to estimate the probability.
        outcome: the outcome of each build in the streak.
        streak: the number of outcomes in the streak.
    """
    alike = sum(each.outcome is outcome for each in earlier)
    # Laplace's rule of succession: without any outcome, both are equally probable.
    return float((alike + 1) / (len(earlier) + 2)) ** streak >= _CHANCE


def _is_pass(observation: ObservedOutcome) -> bool:
    return observation.outcome is not BuildTestOutcome.FAILED


def _precedes(first: ObservedOutcome, second: ObservedOutcome) -> bool:
    return (first.started_at, first.build_id) < (second.started_at, second.build_id)


def _last_of_both(lane: Sequence[ObservedOutcome]) -> _Evidence:
    last = {_is_pass(each): each for each in lane}
    return tuple(sorted(last.values(), key=lambda each: (each.started_at, each.build_id)))


def _two(first: ObservedOutcome, last: ObservedOutcome) -> _Evidence:
    return (first,) if first is last else (first, last)
