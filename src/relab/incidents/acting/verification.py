"""Whether an act has helped: as users see it, for a sustained time, and with the cause gone. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Final

from relab.incidents.models import Snapshot
from relab.knowledge.models import Condition, FactValue

ERRORS: Final = "errors.pct"
P95: Final = "latency.p95_ms"
REQUESTS: Final = "traffic.requests"
SHED: Final = "traffic.shed"
LEAST_REQUESTS: Final = 5
"""Shares and quantiles of fewer requests say nothing."""
_MOST_GAP: Final = 3
"""In poll intervals; longer ones are holes, of which nobody knows what happened in them."""
_NEEDED: Final = ("health", "metrics")
_US: Final = 1_000_000


class Outcome(StrEnum):
    """What has come of an act so far."""

    VERIFIED = "verified"
    NOT_YET = "not_yet"
    FAILED = "failed"
    WORSE = "worse"
    """Errors or P95 are beyond what they were when it began: take it back."""


@dataclass(frozen=True, slots=True)
class VerificationSettings:
    """What counts as recovered, as worse, and how long is waited.

    Attributes:
        poll_interval_s: between two polls; a gap of more than three of them breaks what is sustained.
        sustained_s, least_polls: for how long, and over how many polls, users must be served well.
        quiet_s: for how long, and nothing else found wrong, where nobody has done anything: then it has passed.
        patience_s: from the end of the act until it has failed.
        cause_patience_s: as long the cause may still be seen.
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
    sheds: bool = False


@dataclass(frozen=True, slots=True)
class Verification:
    """What has come of an act, and why it is thought so.

    Attributes:
        well_s: for how long users have been served well, up to the last poll.
    """

    outcome: Outcome
    reason: str
    well_s: float = 0.0


def verify(course: Course, bounds: Bounds, settings: VerificationSettings) -> Verification:
    """Return what has come of an act so far.

    Args:
        course: what has happened since.
        bounds: up to what users are served well.
        settings: how long that must be so.
    """
    course = _without_leaps(_by_one_clock(course), settings)
    if course.sheds:
        before, polls = _without_refusals(course.before), [_without_refusals(poll) for poll in course.polls]
        course = replace(course, before=before, polls=polls)
    polls = [poll for poll in course.polls if poll.at_us > course.ended_at_us]
    worse = _worse(course, polls, settings)
    if worse:
        return Verification(Outcome.WORSE, worse)
    streak = _streak(course, polls, bounds, settings)
    well_s = (streak[-1].at_us - streak[0].at_us) / _US if streak else 0.0
    is_sustained = well_s >= settings.sustained_s and len(streak) >= settings.least_polls
    open_conditions = _open(course, streak, settings)
    if is_sustained and not open_conditions:
        return Verification(
            Outcome.VERIFIED, f"Users have been served well for {well_s:g} s, and the cause is gone.", well_s
        )
    seen = _seen_cause(course, settings)
    if seen:
        return Verification(Outcome.FAILED, f"The cause is still there: {seen}.", well_s)
    since_s = (polls[-1].at_us - course.ended_at_us) / _US if polls else 0.0
    # What is well at the moment is given the time to stay so, but not for ever; so is a target that serves its users
    # well, and does not yet call itself so.
    is_on_the_way = bool(streak) and not is_sustained
    is_served = not streak and _is_served(course, polls, bounds)
    patience_s = settings.patience_s * (2 if is_on_the_way or is_served else 1)
    # Polls, not the time alone: who was not looking, after a restart of its own, has seen nothing fail.
    if since_s >= patience_s and len(polls) >= settings.least_polls:
        problem = "" if streak else _problem(course, polls[-1], bounds)
        reason = problem or "; ".join(open_conditions) or f"users are served well for {well_s:g} s only"
        return Verification(Outcome.FAILED, f"After {since_s:.0f} s it is not verified: {reason}.", well_s)
    waits_for = "; ".join(open_conditions) if is_sustained else f"users are served well for {well_s:g} s so far"
    return Verification(Outcome.NOT_YET, f"Not verified yet: {waits_for}.", well_s)


def _is_served(course: Course, polls: Sequence[Snapshot], bounds: Bounds) -> bool:
    """Return whether only the target's own word says that users are not served well, and no part fails that did not before.

    Such a part is a reason for the word, and another cause: that is not waited for.
    """
    if not polls or _problem(course, _without_word(polls[-1]), bounds):
        return False
    return polls[-1].failing <= course.before.failing


def _without_refusals(poll: Snapshot) -> Snapshot:
    """Return a poll as those see it who are let in. What the target calls itself is about all of them, so it tells nothing."""
    requests, errors = poll.numbers.get(REQUESTS, 0.0), poll.numbers.get(ERRORS)
    if not requests or errors is None or not poll.numbers.get(SHED):
        return poll
    left = max(errors - 100 * poll.numbers[SHED] / requests, 0.0)
    return _without_word(replace(poll, numbers={**poll.numbers, ERRORS: left}))


def _without_word(poll: Snapshot) -> Snapshot:
    """Return a poll without what the target calls itself."""
    return replace(poll, words={name: word for name, word in poll.words.items() if name != "health"})


def _by_one_clock(course: Course) -> Course:
    """Return what has happened since the clock was last set back; what was before then is at no known distance."""
    begin, last_us = 0, course.began_at_us
    for number, poll in enumerate(course.polls):
        if poll.at_us < last_us:
            begin = number
        last_us = poll.at_us
    if not course.polls or course.polls[begin].at_us >= course.began_at_us:
        return course
    course = replace(course, ended_at_us=course.polls[begin].at_us - 1, polls=course.polls[begin:])
    if course.facts_at_us is not None and course.facts_at_us > course.polls[-1].at_us:
        # They were seen before the clock was set.
        course = replace(course, facts=None, facts_at_us=None)
    return course


def _without_leaps(course: Course, settings: VerificationSettings) -> Course:
    """Return what has happened as if nobody had slept, and no clock had been set forward.

    A hole between polls that is longer than all patience is no time in which something could have been seen to fail. It stays
    a hole, of a length that no row of polls goes over.
    """
    most_us = int(settings.patience_s * _US)
    kept_us = int(_MOST_GAP * settings.poll_interval_s * _US) + 1
    lost_us, last_us = 0, course.ended_at_us
    polls, moved = [], dict[int, int]()
    for poll in course.polls:
        if poll.at_us - last_us > most_us:
            lost_us += max(poll.at_us - last_us - kept_us, 0)
        last_us = max(poll.at_us, last_us)
        moved[poll.at_us] = poll.at_us - lost_us
        polls.append(replace(poll, at_us=poll.at_us - lost_us))
    if not lost_us:
        return course
    facts_at_us = course.facts_at_us
    if facts_at_us is not None:
        seen_before = [at_us for at_us in moved if at_us <= facts_at_us]
        facts_at_us -= max(seen_before) - moved[max(seen_before)] if seen_before else 0
    stale = frozenset(moved.get(at_us, at_us) for at_us in course.stale)
    return replace(course, polls=polls, stale=stale, facts_at_us=facts_at_us)


def _streak(
    course: Course, polls: Sequence[Snapshot], bounds: Bounds, settings: VerificationSettings
) -> list[Snapshot]:
    """Return the last polls in a row in which users were served well, oldest first; a long gap ends the row."""
    found: list[Snapshot] = []
    for poll in reversed(polls):
        gap_s = (found[-1].at_us - poll.at_us) / _US if found else 0.0
        if not 0 <= gap_s <= _MOST_GAP * settings.poll_interval_s or _problem(course, poll, bounds):
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
        recent_us = streak[-1].at_us - int(_MOST_GAP * settings.poll_interval_s * _US)
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
    if is_ruin or p95 is None or was is None:
        return ""
    if p95 > max(was * settings.worse_latency_factor, was + settings.worse_latency_ms):
        return f"P95 is {p95:.4g} ms, and was {was:.4g} ms when it began"
    return ""
