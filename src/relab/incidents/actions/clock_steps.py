"""Correct the times of the polls made since an action, if the clock was changed or the process slept.

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
    """Return the observations without the polls that were made before the clock was last set back.

    If the clock was not set back, the observations are returned unchanged. The age of the removed polls is unknown. If
    polls were removed, the end of the action (`ended_at_us`) becomes the time just before the first remaining poll.
    """
    begin, last_us = 0, course.began_at_us
    for number, poll in enumerate(course.polls):
        if poll.at_us < last_us:
            begin = number
        last_us = poll.at_us
    if not course.polls or course.polls[begin].at_us >= course.began_at_us:
        return course
    course = replace(course, ended_at_us=course.polls[begin].at_us - 1, polls=course.polls[begin:])
    if course.facts_at_us is not None and course.facts_at_us > course.polls[-1].at_us:
        # The facts were seen before the clock was set back.
        course = replace(course, facts=None, facts_at_us=None)
    return course


def without_clock_jumps(course: ActionObservations, settings: VerificationSettings) -> ActionObservations:
    """Return the observations with long gaps between polls shortened, as if the process had not slept.

    Only gaps longer than `settings.effect_timeout_s` are shortened: without a poll, they show nothing about the effect
    of the action, so they must not count as waiting time. A shortened gap lasts just over 3 poll intervals (`MAX_GAP`,
    the longest gap between polls that count as consecutive). So the polls before and after the gap still do not count
    as consecutive. A clock that was set forward causes such a gap too.
    """
    most_us = int(settings.effect_timeout_s * _US)
    kept_us = int(MAX_GAP * settings.poll_interval_s * _US) + 1
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
