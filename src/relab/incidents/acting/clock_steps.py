"""The polls since an act by one clock: what a clock that is set back or forward, or a process that slept, does to them. Pure."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from relab.incidents.acting.verification import Course, VerificationSettings

MOST_GAP: Final = 3
"""In poll intervals; longer gaps are holes, of which nobody knows what happened in them."""
_US: Final = 1_000_000


def by_one_clock(course: Course) -> Course:
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


def without_leaps(course: Course, settings: VerificationSettings) -> Course:
    """Return what has happened as if nobody had slept, and no clock had been set forward.

    A hole between polls that is longer than all patience is no time in which something could have been seen to fail. It stays
    a hole, of a length that no row of polls goes over.
    """
    most_us = int(settings.patience_s * _US)
    kept_us = int(MOST_GAP * settings.poll_interval_s * _US) + 1
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
