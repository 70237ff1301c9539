"""Whether an act has helped: as users see it, for a sustained time, and with the cause gone. Pure."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Final

from relab.incidents.acting.admitted import ERRORS, P95, REQUESTS, without_refusals, without_word
from relab.incidents.acting.clock_steps import MOST_GAP, by_one_clock, without_leaps
from relab.incidents.models import Snapshot
from relab.knowledge.models import Condition, FactValue

LEAST_REQUESTS: Final = 5
"""Shares and quantiles of fewer say nothing."""
_NEEDED: Final = ("health", "metrics")
_US: Final = 1_000_000


class Outcome(StrEnum):
    """What has come of an act so far."""

    VERIFIED = "verified"
    NOT_YET = "not_yet"
    RECOVERING = "recovering"
    """The cause is gone and users are served; latency, or the target's own word, is not back to normal yet: keep watching."""
    MITIGATED = "mitigated"
    """Recovery did not end within its time: the cause is gone, users are served, and some latency is left."""
    OTHER_CAUSE = "other_cause"
    """The cause is gone, and users still suffer: something else is wrong as well, and is to be diagnosed."""
    FAILED = "failed"
    WORSE = "worse"
    """Errors or P95 are beyond what they were when it began: take it back."""

    @property
    def is_pending(self) -> bool:
        """Whether more polls decide."""
        return self in {Outcome.NOT_YET, Outcome.RECOVERING}


@dataclass(frozen=True, slots=True)
class VerificationSettings:
    """What counts as recovered, as worse, and how long is waited.

    Attributes:
        poll_interval_s: between two polls; a gap of more than three of them breaks what is sustained.
        sustained_s, least_polls: for how long, and over how many polls, users must be served well.
        quiet_s: for how long, and nothing else found wrong, where nobody has done anything: then it has passed.
        patience_s: from the end of the act until it has failed.
        cause_patience_s: as long the cause may still be seen.
        recovery_s: from the end of the act, how long a service that recovers is watched before it counts as mitigated only.
        window_s: over which the target's figures are taken; so long they tell of the act itself, too.
        worse_s: for how long it must be worse.
        worse_errors_pct, worse_latency_factor, worse_latency_ms: by how much, at least.
        ruin_errors_pct: so much more errors are not waited out until the window is over.
    """

    poll_interval_s: float = 30.0
    sustained_s: float = 60.0
    least_polls: int = 3
    quiet_s: float = 180.0
    patience_s: float = 180.0
    cause_patience_s: float = 90.0
    recovery_s: float = 720.0
    window_s: float = 30.0
    worse_s: float = 10.0
    worse_errors_pct: float = 10.0
    worse_latency_factor: float = 1.5
    worse_latency_ms: float = 100.0
    ruin_errors_pct: float = 50.0


@dataclass(frozen=True, slots=True)
class Bounds:
    """Up to what users are served well.

    Attributes:
        errors_pct, p95_ms: from the baseline; without one, what the operators say.
        needs_traffic: whether there usually is some: then nobody is served well as long as nobody is served.
    """

    errors_pct: float
    p95_ms: float
    needs_traffic: bool = True


@dataclass(frozen=True, slots=True)
class Course:
    """What has happened since an act.

    Attributes:
        began_at_us, ended_at_us: of the act.
        before: the last poll before it; what is worse is worse than this.
        polls: since then, in the order in which they were made.
        stale: times (`at_us`) of those polls whose figures are old.
        mended: what must hold for the cause to be gone.
        facts: of a fresh look at that; empty if there was none.
        facts_at_us: when it was made.
        facts_before: what was known before the act; whether the cause was seen then is read from it.
        other: another cause that looks since the act have confirmed; empty if none is known.
        sheds: whether what is too much is refused on purpose: then refusals are no sign that it has failed.
    """

    began_at_us: int
    ended_at_us: int
    before: Snapshot
    polls: Sequence[Snapshot]
    stale: frozenset[int] = frozenset()
    mended: Sequence[Condition] = ()
    facts: Mapping[str, FactValue] | None = None
    facts_at_us: int | None = None
    facts_before: Mapping[str, FactValue] | None = None
    other: str = ""
    sheds: bool = False


@dataclass(frozen=True, slots=True)
class Verification:
    """What has come of an act, and why it is thought so.

    Attributes:
        well_s: for how long users have been served well, up to the last poll.
        suspects_other: whether the cause is known to be gone, and another one may be there: users still suffer, or suffer
            more, or the service is not back to normal after half of the patience with an act.
    """

    outcome: Outcome
    reason: str
    well_s: float = 0.0
    suspects_other: bool = False


def verify(course: Course, bounds: Bounds, settings: VerificationSettings) -> Verification:
    """Return what has come of an act so far.

    Args:
        course: what has happened since.
        bounds: up to what users are served well.
        settings: how long that must be so.
    """
    course = without_leaps(by_one_clock(course), settings)
    if course.sheds:
        before, polls = without_refusals(course.before), [without_refusals(poll) for poll in course.polls]
        course = replace(course, before=before, polls=polls)
    polls = [poll for poll in course.polls if poll.at_us > course.ended_at_us]
    worse = _worse(course, polls, settings)
    if worse:
        return _worse_since(course, polls, settings, worse)
    streak = _streak(course, polls, bounds, settings)
    well_s = (streak[-1].at_us - streak[0].at_us) / _US if streak else 0.0
    is_sustained = well_s >= settings.sustained_s and len(streak) >= settings.least_polls
    open_conditions = _open(course, streak, settings)
    if is_sustained and not open_conditions:
        reason = f"Users have been served well for {well_s:g} s, and the cause is gone."
        return Verification(Outcome.VERIFIED, reason, well_s)
    seen = _seen_cause(course, settings)
    if seen:
        return Verification(Outcome.FAILED, f"The cause is still there: {seen}.", well_s)
    return _undecided(course, polls, bounds, settings, streak=streak, waits_for=open_conditions)


def _worse_since(course: Course, polls: Sequence[Snapshot], settings: VerificationSettings, worse: str) -> Verification:
    """Return the verdict on an act since which it is worse: the act's doing, unless another cause explains it."""
    is_right = _was_seen(course) and _is_gone(course, polls, settings)
    if is_right and course.other:
        reason = f"The cause is gone, and it is worse since, probably for {course.other}: {worse}."
        return Verification(Outcome.OTHER_CAUSE, reason)
    return Verification(Outcome.WORSE, worse, suspects_other=is_right)


def _undecided(
    course: Course,
    polls: Sequence[Snapshot],
    bounds: Bounds,
    settings: VerificationSettings,
    *,
    streak: Sequence[Snapshot],
    waits_for: Sequence[str],
) -> Verification:
    """Return the verdict on an act that is neither verified nor refuted: by what is left, and by the time that has passed.

    `streak` has the last polls in a row in which users were served well, `waits_for` the conditions for the cause to be gone
    that are not known to hold.
    """
    well_s = (streak[-1].at_us - streak[0].at_us) / _US if streak else 0.0
    is_sustained = well_s >= settings.sustained_s and len(streak) >= settings.least_polls
    since_s = (polls[-1].at_us - course.ended_at_us) / _US if polls else 0.0
    rest = _rest(course, polls, bounds, settings)
    if rest is Outcome.RECOVERING and (not streak or since_s >= settings.patience_s):
        return _recovering(course, polls, bounds, settings, well_s)
    # What is well at the moment is given the time to stay so, but not for ever; so is a target that serves its users
    # well, and does not yet call itself so.
    is_on_the_way = bool(streak) and not is_sustained
    is_served = not streak and _is_served(course, polls, bounds)
    patience_s = settings.patience_s * (2 if is_on_the_way or is_served else 1)
    problem = "" if streak or not polls else _problem(course, polls[-1], bounds)
    suspects_other = rest is Outcome.OTHER_CAUSE
    is_plain = suspects_other and (bool(course.other) or _has_new_part(course, polls, settings))
    # Polls, not the time alone: a process that was not polling has seen nothing fail.
    if (since_s >= patience_s or is_plain) and len(polls) >= settings.least_polls:
        if rest is Outcome.OTHER_CAUSE:
            other = f", probably {course.other}" if course.other else ""
            reason = f"The cause is gone after {since_s:.0f} s, and something else is wrong{other}: {problem}."
            return Verification(Outcome.OTHER_CAUSE, reason, well_s)
        reason = problem or "; ".join(waits_for) or f"users are served well for {well_s:g} s only"
        return Verification(Outcome.FAILED, f"After {since_s:.0f} s it is not verified: {reason}.", well_s)
    said = "; ".join(waits_for) if is_sustained else f"users are served well for {well_s:g} s so far"
    return Verification(Outcome.NOT_YET, f"Not verified yet: {said}.", well_s, suspects_other)


def _recovering(
    course: Course, polls: Sequence[Snapshot], bounds: Bounds, settings: VerificationSettings, well_s: float
) -> Verification:
    """Return the verdict on a service that recovers: watched on, another cause once one is confirmed, mitigated at the end."""
    since_s = (polls[-1].at_us - course.ended_at_us) / _US
    left = next((said for poll in reversed(polls) if (said := _problem(course, poll, bounds))), "")
    reason = f"The cause is gone and users are served, {since_s:.0f} s after the act; not back to normal: {left}."
    if course.other:
        return Verification(Outcome.OTHER_CAUSE, f"{reason} Probably {course.other} is there as well.", well_s)
    is_over = since_s >= settings.recovery_s and len(polls) >= settings.least_polls
    outcome = Outcome.MITIGATED if is_over else Outcome.RECOVERING
    # Most services are back to normal before that; what is left then may have a cause of its own.
    return Verification(outcome, reason, well_s, since_s >= settings.patience_s / 2)


def _rest(course: Course, polls: Sequence[Snapshot], bounds: Bounds, settings: VerificationSettings) -> Outcome | None:
    """Return what it is that users may still notice once the cause is known to be gone.

    Returns:
        `RECOVERING` if users are served and it is better than before, `OTHER_CAUSE` if they are not and the cause was seen
        before the act (else the act was for the wrong one), None if the cause is not known to be gone or nothing is left.
    """
    if not polls or not _is_gone(course, polls, settings):
        return None
    late = _latest(polls, settings)
    served = [poll for poll in late if _serves(course, poll, bounds)]
    if 2 * len(served) >= len(late):
        # A poll with a few errors among them is no reason to give up; it stays in the target's figures for a while.
        is_back = not any(_problem(course, poll, bounds) for poll in late)
        return Outcome.RECOVERING if not is_back and _is_better(course, late, bounds) else None
    return Outcome.OTHER_CAUSE if _was_seen(course) else None


def _was_seen(course: Course) -> bool:
    """Return whether the cause was seen before the act: else the act may have been for the wrong one."""
    return any(item.holds(course.facts_before or {}) is False for item in course.mended)


def _is_gone(course: Course, polls: Sequence[Snapshot], settings: VerificationSettings) -> bool:
    """Return whether a look of lately, after the figures of the act itself have passed, shows that the cause is gone."""
    if not course.mended or course.facts is None or course.facts_at_us is None:
        return False
    since_us = max(polls[-1].at_us - _memory_us(settings), course.ended_at_us + int(settings.window_s * _US))
    return course.facts_at_us >= since_us and all(item.holds(course.facts) is True for item in course.mended)


def _memory_us(settings: VerificationSettings) -> int:
    """Return how long what happened once may still be seen in the target's figures, and be told apart from a row of it."""
    return int(max(settings.window_s + settings.worse_s, MOST_GAP * settings.poll_interval_s) * _US)


def _latest(polls: Sequence[Snapshot], settings: VerificationSettings) -> list[Snapshot]:
    return [poll for poll in polls if poll.at_us >= polls[-1].at_us - _memory_us(settings)]


def _serves(course: Course, poll: Snapshot, bounds: Bounds) -> bool:
    """Return whether users get what they ask for: whatever it takes, and whatever the target calls itself."""
    patient = replace(bounds, p95_ms=math.inf)
    return not _problem(course, without_word(poll), patient) and poll.failing <= course.before.failing


def _is_better(course: Course, late: Sequence[Snapshot], bounds: Bounds) -> bool:
    """Return whether users are better off than before the act.

    They got errors or no answer then; or waited, and at least half of what was too long is gone; or a part works again.
    """
    before = course.before
    if not _serves(course, before, bounds):
        return True
    was = before.numbers.get(P95)
    now = [poll.numbers[P95] for poll in late if P95 in poll.numbers]
    if was is not None and was > bounds.p95_ms:
        return bool(now) and statistics.median(now) - bounds.p95_ms <= (was - bounds.p95_ms) / 2
    return bool(before.failing - late[-1].failing)


def _has_new_part(course: Course, polls: Sequence[Snapshot], settings: VerificationSettings) -> bool:
    """Return whether a part has failed for a while that did not fail before the act: no recovery ends that."""
    late = _latest(polls, settings)
    return late[-1].at_us - late[0].at_us >= settings.worse_s * _US and bool(
        frozenset.intersection(*(poll.failing for poll in late)) - course.before.failing
    )


def _is_served(course: Course, polls: Sequence[Snapshot], bounds: Bounds) -> bool:
    """Return whether only the target's own word says that users are not served well, and no part fails that did not before.

    Such a part is a reason for the word, and another cause: that is not waited for.
    """
    if not polls or _problem(course, without_word(polls[-1]), bounds):
        return False
    return polls[-1].failing <= course.before.failing


def _streak(
    course: Course, polls: Sequence[Snapshot], bounds: Bounds, settings: VerificationSettings
) -> list[Snapshot]:
    """Return the last polls in a row in which users were served well, oldest first; a long gap ends the row."""
    found: list[Snapshot] = []
    for poll in reversed(polls):
        gap_s = (found[-1].at_us - poll.at_us) / _US if found else 0.0
        if not 0 <= gap_s <= MOST_GAP * settings.poll_interval_s or _problem(course, poll, bounds):
            break
        found.append(poll)
    return found[::-1]


def _problem(course: Course, poll: Snapshot, bounds: Bounds) -> str:
    """Return why users are not served well in a poll, or why nobody can tell; empty if they are."""
    absent = [part for part in _NEEDED if part in poll.absent]
    if absent:
        return f"{absent[0]} does not answer"
    if poll.at_us in course.stale:
        return "the figures are old"
    health = poll.words.get("health")
    if health not in {None, "healthy"}:
        return f"the target calls itself {health}"
    if poll.numbers.get(REQUESTS, 0.0) >= LEAST_REQUESTS:
        return _beyond(poll, bounds)
    if bounds.needs_traffic:
        return "too few requests arrive to tell"
    return "" if health == "healthy" else "nothing tells how it is"


def _beyond(poll: Snapshot, bounds: Bounds) -> str:
    """Return which figure of a poll is not within its bound, or is not told; empty if all are."""
    for signal, most in ((ERRORS, bounds.errors_pct), (P95, bounds.p95_ms)):
        value = poll.numbers.get(signal)
        if value is None:
            return f"{signal} is not told"
        if value > most:
            return f"{signal} is {value:.4g}, above {most:.4g}"
    return ""


def _open(course: Course, streak: Sequence[Snapshot], settings: VerificationSettings) -> list[str]:
    """Return which conditions for the cause to be gone are not known to hold; only a look of these last polls counts."""
    facts: Mapping[str, FactValue] = {}
    if streak and course.facts_at_us is not None:
        recent_us = streak[-1].at_us - int(MOST_GAP * settings.poll_interval_s * _US)
        if course.facts_at_us >= max(streak[0].at_us, recent_us):
            facts = course.facts or {}
    return [
        f"{condition} is not {'known' if condition.holds(facts) is None else 'so'}"
        for condition in course.mended
        if condition.holds(facts) is not True
    ]


def _seen_cause(course: Course, settings: VerificationSettings) -> str:
    """Return which sign of the cause is still seen although it should be gone by now; empty if none is."""
    if course.facts is None or course.facts_at_us is None:
        return ""
    if course.facts_at_us - course.ended_at_us < settings.cause_patience_s * _US:
        return ""
    return "; ".join(f"not {item}" for item in course.mended if item.holds(course.facts) is False)


def _worse(course: Course, polls: Sequence[Snapshot], settings: VerificationSettings) -> str:
    """Return what has been worse than before the act for long enough; empty if nothing has."""
    for is_ruin in (False, True):
        after_us = course.ended_at_us + (0 if is_ruin else int(settings.window_s * _US))
        late = [poll for poll in polls if poll.at_us >= after_us and poll.at_us not in course.stale]
        row = []
        for poll in reversed(late):
            said = _exceeds(course, poll, settings, is_ruin=is_ruin)
            if not said:
                break
            row.append((poll.at_us, said))
        if len(row) >= 2 and row[0][0] - row[-1][0] >= settings.worse_s * _US:
            return row[0][1]
    return ""


def _exceeds(course: Course, poll: Snapshot, settings: VerificationSettings, *, is_ruin: bool) -> str:
    """Return what is worse in a poll than it was before the act; empty if nothing is."""
    before = course.before.numbers
    was_absent = any(part in course.before.absent for part in _NEEDED)
    is_absent = any(part in poll.absent for part in _NEEDED)
    if is_absent or was_absent:
        # Figures of nobody are no measure; a target that has fallen silent is the worst there is.
        return "the target does not answer any more" if is_absent and not was_absent else ""
    if poll.numbers.get(REQUESTS, 0.0) < LEAST_REQUESTS:
        return ""
    errors, most = poll.numbers.get(ERRORS), before.get(ERRORS, 0.0)
    margin = settings.ruin_errors_pct if is_ruin else settings.worse_errors_pct
    if errors is not None and errors > most + margin:
        return f"errors are {errors:.4g} %, and were {most:.4g} % when it began"
    p95, was = poll.numbers.get(P95), before.get(P95)
    # Requests that fail at once take no time: that they are answered again takes longer, and is not worse.
    is_answered = errors is not None and errors < most - settings.worse_errors_pct
    if is_ruin or is_answered or p95 is None or was is None:
        return ""
    if p95 > max(was * settings.worse_latency_factor, was + settings.worse_latency_ms):
        return f"P95 is {p95:.4g} ms, and was {was:.4g} ms when it began"
    return ""
