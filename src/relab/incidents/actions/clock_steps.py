"""Correct the times of the polls made since an action, if the clock was changed or the process was suspended.

Pure functions.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from relab.incidents.actions.verification_models import ActionObservations, VerificationSettings

MAX_GAP: Final = 3
"""The longest gap between two consecutive polls, in poll intervals. Nothing is known about the time of a longer gap."""
_US: Final = 1_000_000


def since_clock_set_back(course: ActionObservations) -> ActionObservations:
    """Return `course` (observations since an action) without the polls before a large backward step of the clock.

    A step is large if the first poll after it has a time before the beginning of the action. Without a large step, the
    observations are returned unchanged. After a large step, the action counts as ended (`ended_at_us`) just before the
    first remaining poll, and facts that a probe found before the step are removed, too.
    """
    begin, last_us = 0, course.began_at_us
    for number, poll in enumerate(course.polls):
        if poll.at_us < last_us:
            begin = number
        last_us = poll.at_us
    if not course.polls or course.polls[begin].at_us >= course.began_at_us:
        return course
    # The age of the removed polls is unknown.
    course = replace(course, ended_at_us=course.polls[begin].at_us - 1, polls=course.polls[begin:])
    if course.facts_at_us is not None and course.facts_at_us > course.polls[-1].at_us:
        # The facts were seen before the clock was set back.
        course = replace(course, facts=None, facts_at_us=None)
    return course


def without_clock_jumps(course: ActionObservations, settings: VerificationSettings) -> ActionObservations:
    """Return `course`, the observations since an action, with long gaps between polls shortened.

    Such gaps come from a process that was suspended, or a clock that was set forward; this time must not count as waiting
    for the action's effect. Polls count as consecutive if at most `MAX_GAP` poll intervals lie between them. A gap longer than
    `settings.effect_timeout_s` becomes slightly longer than that, so the polls around it still do not count as
    consecutive.
    """
    most_us = int(settings.effect_timeout_s * _US)
    kept_us = int(MAX_GAP * settings.poll_interval_s * _US) + 1
    lost_us, last_us = 0, course.ended_at_us
    polls, moved = [], dict[int, int]()
    for poll in course.polls:
        if poll.at_us - last_us > most_us:
            # Without a poll, this time shows nothing about the action, so it must not count as waiting.
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
