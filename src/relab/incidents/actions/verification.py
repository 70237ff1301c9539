"""Verify an action: are users served well for a sustained time, and is the cause gone? Pure functions."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Final

from relab.incidents.actions.clock_steps import MAX_GAP, since_clock_set_back, without_clock_jumps
from relab.incidents.actions.load_shedding import ERRORS, P95, REQUESTS, without_health_status, without_shed_requests
from relab.incidents.actions.records import RepairResult
from relab.incidents.actions.verification_models import (
    MIN_REQUESTS,
    NEEDED_PARTS,
    ActionObservations,
    HealthBounds,
    VerificationResult,
    VerificationSettings,
    without_traffic,
)
from relab.incidents.models import Snapshot
from relab.knowledge.models import FactValue

_US: Final = 1_000_000
_NO_TRAFFIC: Final = "too few requests arrive for a result"


def verify(course: ActionObservations, bounds: HealthBounds, settings: VerificationSettings) -> VerificationResult:
    """Return the verdict (result of verification) on an action so far; a pending verdict needs more polls.

    Args:
        course: the observations since the action.
        bounds: the upper bounds within which users are served well.
        settings: thresholds and waiting times.
    """
    course = without_clock_jumps(since_clock_set_back(course), settings)
    if course.sheds:
        before, polls = without_shed_requests(course.before), [without_shed_requests(poll) for poll in course.polls]
        course = replace(course, before=before, polls=polls)
    polls = [poll for poll in course.polls if poll.at_us > course.ended_at_us]
    worse = _worse(course, polls, settings)
    if worse:
        return _worse_since(course, polls, settings, worse)
    streak = _streak(course, polls, bounds, settings)
    well_s = (streak[-1].at_us - streak[0].at_us) / _US if streak else 0.0
    is_sustained = well_s >= settings.min_healthy_s and len(streak) >= settings.min_healthy_polls
    open_conditions = _open(course, streak, settings)
    if is_sustained and not open_conditions:
        reason = f"Users have been served well for {well_s:.0f} s, and the cause is gone."
        return VerificationResult(RepairResult.VERIFIED, reason, well_s)
    seen = _seen_cause(course, settings)
    if seen:
        return VerificationResult(RepairResult.FAILED, f"The cause is still there: {seen}.", well_s)
    return _undecided(course, polls, bounds, settings, streak=streak, waits_for=open_conditions)


def _worse_since(
    course: ActionObservations, polls: Sequence[Snapshot], settings: VerificationSettings, worse: str
) -> VerificationResult:
    """Return the verdict on an action after which the service has become worse; `worse` describes the worse figure.

    The verdict is `OTHER_CAUSE` if two conditions hold: the cause that the action repairs was seen before the action
    and is gone now; and probes have confirmed another cause (`course.other`). Otherwise the verdict is `WORSE`. `polls`
    are the polls after the action.
    """
    is_right = _was_seen(course) and _is_gone(course, polls, settings)
    if is_right and course.other:
        reason = f"The cause is gone, but the figures are worse since, probably because of {course.other}: {worse}."
        return VerificationResult(RepairResult.OTHER_CAUSE, reason)
    return VerificationResult(RepairResult.WORSE, worse, suspects_other=is_right)


def _undecided(
    course: ActionObservations,
    polls: Sequence[Snapshot],
    bounds: HealthBounds,
    settings: VerificationSettings,
    *,
    streak: Sequence[Snapshot],
    waits_for: Sequence[str],
) -> VerificationResult:
    """Return the verdict (result) on an action that is not verified and has not made the service worse.

    Args:
        course: the observations since the action.
        polls: the polls after the end of the action, oldest first.
        bounds: the upper bounds within which users are served well.
        settings: thresholds and waiting times.
        streak: the latest consecutive polls in which users were served well.
        waits_for: a text for each condition of the repair that is not known to be true yet.

    Returns:
        - `NOT_YET`: it is too early for a verdict.
        - `RECOVERING`: the cause is gone, and the service recovers.
        - `MITIGATED`: the cause is gone, but the recovery took too long, or too few requests arrived to verify it.
        - `OTHER_CAUSE`: the cause is gone, but another cause is present.
        - `FAILED`: the action has not helped in time.
    """
    well_s = (streak[-1].at_us - streak[0].at_us) / _US if streak else 0.0
    is_sustained = well_s >= settings.min_healthy_s and len(streak) >= settings.min_healthy_polls
    since_s = (polls[-1].at_us - course.ended_at_us) / _US if polls else 0.0
    rest = _rest(course, polls, bounds, settings)
    if rest is RepairResult.RECOVERING and (not streak or since_s >= settings.effect_timeout_s):
        return _recovering(course, polls, bounds, settings, well_s)
    # The patience is doubled if users have been served well for a while, or if they are served well and only the
    # target's own health status says otherwise.
    is_on_the_way = not is_sustained if streak else _is_served(course, polls, bounds)
    effect_timeout_s = settings.effect_timeout_s * (2 if is_on_the_way else 1)
    problem = "" if streak or not polls else _problem(course, polls[-1], bounds)
    suspects_other = rest is RepairResult.OTHER_CAUSE
    is_plain = suspects_other and (bool(course.other) or _has_new_part(course, polls, settings))
    # Require polls as well as time: a process that was not polling has not seen a failure.
    if (since_s >= effect_timeout_s or is_plain) and len(polls) >= settings.min_healthy_polls:
        late = {_problem(course, poll, bounds) for poll in _latest(polls, settings)}
        if suspects_other and not is_plain and late == {_NO_TRAFFIC}:
            return without_traffic(since_s, settings.requested_window_s)
        if rest is RepairResult.OTHER_CAUSE:
            other = f", probably {course.other}" if course.other else ""
            reason = f"The cause is gone after {since_s:.0f} s, and something else is wrong{other}: {problem}."
            return VerificationResult(RepairResult.OTHER_CAUSE, reason, well_s)
        reason = problem or "; ".join(waits_for) or f"users are served well for {well_s:.0f} s only"
        return VerificationResult(RepairResult.FAILED, f"After {since_s:.0f} s it is not verified: {reason}.", well_s)
    said = "; ".join(waits_for) if is_sustained else f"users are served well for {well_s:.0f} s so far"
    return VerificationResult(RepairResult.NOT_YET, f"Not verified yet: {said}.", well_s, suspects_other)


def _recovering(
    course: ActionObservations,
    polls: Sequence[Snapshot],
    bounds: HealthBounds,
    settings: VerificationSettings,
    well_s: float,
) -> VerificationResult:
    """Return the verdict (result) on an action after which the service recovers but is not back to normal.

    The first case that applies decides:
    1. Probes have confirmed another cause: `OTHER_CAUSE`.
    2. At least `recovery_timeout_s` seconds have passed since the action, and `polls` has at least `min_healthy_polls`
       polls: `MITIGATED`.
    3. Otherwise: `RECOVERING`.

    Args:
        course: the observations since the action.
        polls: the polls after the end of the action, oldest first.
        bounds: the upper bounds within which users are served well.
        settings: thresholds and waiting times.
        well_s: for how many seconds users have been served well.
    """
    since_s = (polls[-1].at_us - course.ended_at_us) / _US
    left = next((said for poll in reversed(polls) if (said := _problem(course, poll, bounds))), "")
    reason = f"The cause is gone and users are served, {since_s:.0f} s after the action; not back to normal: {left}."
    if course.other:
        return VerificationResult(
            RepairResult.OTHER_CAUSE, f"{reason} {course.other} is probably present as well.", well_s
        )
    is_over = since_s >= settings.recovery_timeout_s and len(polls) >= settings.min_healthy_polls
    outcome = RepairResult.MITIGATED if is_over else RepairResult.RECOVERING
    # Most services are back to normal before half of the patience; a problem that lasts longer may have another cause.
    return VerificationResult(outcome, reason, well_s, since_s >= settings.effect_timeout_s / 2)


def _rest(
    course: ActionObservations, polls: Sequence[Snapshot], bounds: HealthBounds, settings: VerificationSettings
) -> RepairResult | None:
    """Return the verdict if the repaired cause is gone, but the service is not back to normal; else None.

    "Users get answers" means that they get answers in at least half of the recent polls. The first case that applies
    decides:
    1. No recent probe shows that the cause is gone: None.
    2. Users get answers, and no recent poll shows a problem: None.
    3. Users get answers, and the service is better than before the action: `RECOVERING`.
    4. The facts from before the action (`course.facts_before`) show the cause: `OTHER_CAUSE`.
    5. Otherwise: None, because the action may have been for the wrong cause.
    """
    if not polls or not _is_gone(course, polls, settings):
        return None
    late = _latest(polls, settings)
    served = [poll for poll in late if _serves(course, poll, bounds)]
    if 2 * len(served) >= len(late):
        # A few errors stay in the target's figures for a while, so up to half of the polls may be bad.
        if not any(_problem(course, poll, bounds) for poll in late):
            return None
        if _is_better(course, late, bounds):
            return RepairResult.RECOVERING
    # If the cause was not seen before, the action may have been for the wrong cause.
    return RepairResult.OTHER_CAUSE if _was_seen(course) else None


def _was_seen(course: ActionObservations) -> bool:
    """Return whether `course.facts_before` (facts from before the action) show the cause that the action repairs."""
    # The cause is present if one of the conditions that hold without it is false.
    return any(item.holds(course.facts_before or {}) is False for item in course.mended)


def _is_gone(course: ActionObservations, polls: Sequence[Snapshot], settings: VerificationSettings) -> bool:
    """Return whether the last probe shows that the action has ended the cause.

    The probe counts only if it ran at least `metrics_window_s` after the action, and soon before the last of `polls`.
    """
    if not course.mended or course.facts is None or course.facts_at_us is None:
        return False
    # A probe within `metrics_window_s` after the action is too early to show anything.
    since_us = max(polls[-1].at_us - _memory_us(settings), course.ended_at_us + int(settings.metrics_window_s * _US))
    return course.facts_at_us >= since_us and all(item.holds(course.facts) is True for item in course.mended)


def _memory_us(settings: VerificationSettings) -> int:
    """Return the age in microseconds up to which polls and probes count as recent in a verification."""
    # Longer than the window of the figures, so that one short failure cannot affect all recent polls.
    return int(max(settings.metrics_window_s + settings.min_worse_s, MAX_GAP * settings.poll_interval_s) * _US)


def _latest(polls: Sequence[Snapshot], settings: VerificationSettings) -> list[Snapshot]:
    return [poll for poll in polls if poll.at_us >= polls[-1].at_us - _memory_us(settings)]


def _serves(course: ActionObservations, poll: Snapshot, bounds: HealthBounds) -> bool:
    """Return whether a poll shows that users get answers: few errors, and no newly failing dependency.

    A dependency fails newly if it did not fail in the last poll before the action (`course.before`). Few errors are at
    most `bounds.errors_pct`. Latency and the target's own health status are ignored.
    """
    patient = replace(bounds, p95_ms=math.inf)
    return not _problem(course, without_health_status(poll), patient) and poll.failing <= course.before.failing


def _is_better(course: ActionObservations, late: Sequence[Snapshot], bounds: HealthBounds) -> bool:
    """Return whether the recent polls `late` are better than `course.before`, the last poll before the action.

    The caller has checked that users get answers in most recent polls. What else must have improved depends on the last
    poll before the action. The first case that applies decides:

    1. Users got no answers in that poll: True, because they get answers now.
    2. P95 was above its bound in that poll: True if at least half of the excess is gone.
    3. Otherwise: True if a dependency that failed before the action works again.
    """
    before = course.before
    if not _serves(course, before, bounds):
        return True
    was = before.numbers.get(P95)
    now = [poll.numbers[P95] for poll in late if P95 in poll.numbers]
    if was is not None and was > bounds.p95_ms:
        return bool(now) and statistics.median(now) - bounds.p95_ms <= (was - bounds.p95_ms) / 2
    return bool(before.failing - late[-1].failing)


def _has_new_part(course: ActionObservations, polls: Sequence[Snapshot], settings: VerificationSettings) -> bool:
    """Return whether a dependency that worked in `course.before` fails in all recent polls, for `settings.min_worse_s` or more.

    `polls` are those after the action, oldest first; the recent ones are the result of `_latest`.
    """
    late = _latest(polls, settings)
    return late[-1].at_us - late[0].at_us >= settings.min_worse_s * _US and bool(
        frozenset.intersection(*(poll.failing for poll in late)) - course.before.failing
    )


def _is_served(course: ActionObservations, polls: Sequence[Snapshot], bounds: HealthBounds) -> bool:
    """Return whether users were served well in the latest poll; False without a poll.

    The target's own health status is ignored. If a dependency fails that worked in `course.before`, the last poll
    before the action, the result is False.
    """
    if not polls or _problem(course, without_health_status(polls[-1]), bounds):
        return False
    # A newly failing dependency is another cause, so waiting would not help.
    return polls[-1].failing <= course.before.failing


def _streak(
    course: ActionObservations, polls: Sequence[Snapshot], bounds: HealthBounds, settings: VerificationSettings
) -> list[Snapshot]:
    """Return the latest consecutive polls in which users were served well, oldest first.

    Users are served well in a poll if the target reports new figures, does not report itself as unhealthy, and has
    errors and P95 within `bounds`. `course.stale` lists the polls with old figures. A gap of more than three poll
    intervals (`settings.poll_interval_s`) also ends the series.
    """
    found: list[Snapshot] = []
    for poll in reversed(polls):
        gap_s = (found[-1].at_us - poll.at_us) / _US if found else 0.0
        if not 0 <= gap_s <= MAX_GAP * settings.poll_interval_s or _problem(course, poll, bounds):
            break
        found.append(poll)
    return found[::-1]


def _problem(course: ActionObservations, poll: Snapshot, bounds: HealthBounds) -> str:
    """Return a text that says why users may not be served well in a poll; empty if the poll shows that they are.

    `course.stale` lists the polls with old figures; `bounds` are the bounds within which users are served well.
    """
    absent = [part for part in NEEDED_PARTS if part in poll.absent]
    if absent:
        return f"{absent[0]} does not answer"
    if poll.at_us in course.stale:
        return "the figures are old"
    health = poll.words.get("health")
    if health not in {None, "healthy"}:
        return f"the target calls itself {health}"
    if poll.numbers.get(REQUESTS, 0.0) >= MIN_REQUESTS:
        return _beyond(poll, bounds)
    if bounds.needs_traffic:
        return _NO_TRAFFIC
    return "" if health == "healthy" else "there are no figures"


def _beyond(poll: Snapshot, bounds: HealthBounds) -> str:
    """Return a text if the share of errors or P95 of a poll is missing or above its bound; else an empty text.

    If both figures have such a problem, the text is about the share of errors.
    """
    for signal, most in ((ERRORS, bounds.errors_pct), (P95, bounds.p95_ms)):
        value = poll.numbers.get(signal)
        if value is None:
            return f"{signal} is not reported"
        if value > most:
            return f"{signal} is {value:.4g}, above {most:.4g}"
    return ""


def _open(course: ActionObservations, streak: Sequence[Snapshot], settings: VerificationSettings) -> list[str]:
    """Return a text for each condition of the repair that is not known to be true.

    The conditions (`course.mended`) are all true once the cause that the action repairs is gone. Only a recent probe
    shows whether they are true; it must have run during `streak`, the latest polls in which users were served well.
    Without such a probe, every condition gets a text.
    """
    facts: Mapping[str, FactValue] = {}
    if streak and course.facts_at_us is not None:
        recent_us = streak[-1].at_us - int(MAX_GAP * settings.poll_interval_s * _US)
        if course.facts_at_us >= max(streak[0].at_us, recent_us):
            facts = course.facts or {}
    return [
        f"{condition} is not {'known' if condition.holds(facts) is None else 'so'}"
        for condition in course.mended
        if condition.holds(facts) is not True
    ]


def _seen_cause(course: ActionObservations, settings: VerificationSettings) -> str:
    """Return the conditions of `course.mended` that the last probe found false, as one text; empty without any.

    These conditions are true once the cause that the action repairs is gone. A probe within `cause_timeout_s` seconds
    after the action does not count; without a probe that counts, the text is empty.
    """
    if course.facts is None or course.facts_at_us is None:
        return ""
    if course.facts_at_us - course.ended_at_us < settings.cause_timeout_s * _US:
        return ""
    return "; ".join(f"not {item}" for item in course.mended if item.holds(course.facts) is False)


def _worse(course: ActionObservations, polls: Sequence[Snapshot], settings: VerificationSettings) -> str:
    """Return a text about a figure that has been worse than before the action for `min_worse_s` seconds.

    The text is empty if there is no such figure. `course.before` is the last poll before the action.
    """
    for is_ruin in (False, True):
        after_us = course.ended_at_us + (0 if is_ruin else int(settings.metrics_window_s * _US))
        late = [poll for poll in polls if poll.at_us >= after_us and poll.at_us not in course.stale]
        row = []
        for poll in reversed(late):
            said = _exceeds(course, poll, settings, is_ruin=is_ruin)
            if not said:
                break
            row.append((poll.at_us, said))
        if len(row) >= 2 and row[0][0] - row[-1][0] >= settings.min_worse_s * _US:
            return row[0][1]
    return ""


def _exceeds(course: ActionObservations, poll: Snapshot, settings: VerificationSettings, *, is_ruin: bool) -> str:
    """Return how `poll` is worse than `course.before`, the last poll before the action, as a text; empty if it is not.

    A poll is worse if the target no longer answers, or if errors or P95 have increased by more than their threshold.
    With `is_ruin`, P95 does not count, and the threshold for errors is the higher `much_worse_errors_pct`.
    """
    before = course.before.numbers
    was_absent = any(part in course.before.absent for part in NEEDED_PARTS)
    is_absent = any(part in poll.absent for part in NEEDED_PARTS)
    if is_absent or was_absent:
        # Missing figures cannot be compared; but a target that no longer answers is always worse.
        return "the target no longer answers" if is_absent and not was_absent else ""
    if poll.numbers.get(REQUESTS, 0.0) < MIN_REQUESTS:
        return ""
    errors, most = poll.numbers.get(ERRORS), before.get(ERRORS, 0.0)
    margin = settings.much_worse_errors_pct if is_ruin else settings.worse_errors_pct
    if errors is not None and errors > most + margin:
        return f"errors are {errors:.4g} %, and were {most:.4g} % when it began"
    p95, was = poll.numbers.get(P95), before.get(P95)
    # Requests that fail at once are fast: latency rises when they are answered again, and that is not worse.
    is_answered = errors is not None and errors < most - settings.worse_errors_pct
    if is_ruin or is_answered or p95 is None or was is None:
        return ""
    if p95 > max(was * settings.worse_latency_factor, was + settings.worse_latency_ms):
        return f"P95 is {p95:.4g} ms, and was {was:.4g} ms when it began"
    return ""
