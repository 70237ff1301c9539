"""Steps of the clock between polls after an action: which polls count, and how much time a long gap counts."""

from __future__ import annotations

import pytest

from relab.incidents.actions.clock_steps import since_clock_set_back, without_clock_jumps
from relab.incidents.actions.verification_models import ActionObservations, VerificationSettings
from relab.incidents.models import Snapshot

SECOND_US = 1_000_000
SETTINGS = VerificationSettings(poll_interval_s=2.0, effect_timeout_s=60.0)
KEPT_US = 6 * SECOND_US + 1
"""What remains of a long gap: three poll intervals, and a little more."""


def course(
    *at_s: int, began_s: int = 99, stale_s: tuple[int, ...] = (), facts_s: int | None = None
) -> ActionObservations:
    """Return observations since an action that ended at 100 s, with polls at the given seconds."""
    return ActionObservations(
        began_s * SECOND_US,
        100 * SECOND_US,
        Snapshot(0),
        [Snapshot(each * SECOND_US) for each in at_s],
        stale=frozenset(each * SECOND_US for each in stale_s),
        facts=None if facts_s is None else {"pool.pending": 0.0},
        facts_at_us=None if facts_s is None else facts_s * SECOND_US,
    )


def times(found: ActionObservations) -> list[int]:
    return [poll.at_us for poll in found.polls]


@pytest.mark.parametrize(
    "seen", [course(), course(99), course(101, 103), course(101, 105, 104, 106), course(101, 102, 99, 103)]
)
def test_polls_since_the_beginning_of_the_action_all_count(seen: ActionObservations) -> None:
    assert since_clock_set_back(seen) is seen


@pytest.mark.parametrize("polls", [(101, 103, 40, 42), (101, 50, 103, 40, 42), (40, 42)])
def test_only_polls_after_a_large_step_back_count_and_the_action_ended_just_before_them(polls: tuple[int, ...]) -> None:
    found = since_clock_set_back(course(*polls))

    assert times(found) == [40 * SECOND_US, 42 * SECOND_US]
    assert found.ended_at_us == 40 * SECOND_US - 1


@pytest.mark.parametrize(("facts_s", "is_kept"), [(None, False), (41, True), (42, True), (43, False), (102, False)])
def test_facts_from_before_a_large_step_back_are_removed(facts_s: int | None, is_kept: bool) -> None:
    found = since_clock_set_back(course(101, 103, 40, 42, facts_s=facts_s))

    assert found.facts == ({"pool.pending": 0.0} if is_kept else None)
    assert (found.facts_at_us is not None) is is_kept


def test_gap_up_to_the_effect_timeout_stays() -> None:
    seen = course(160, 220, 221)

    assert without_clock_jumps(seen, SETTINGS) is seen


def test_longer_gap_is_shortened_with_all_later_times() -> None:
    seen = course(102, 500, 502, stale_s=(102, 500), facts_s=501)

    found = without_clock_jumps(seen, SETTINGS)

    first, second, third = times(found)
    assert first == 102 * SECOND_US
    assert second - first == KEPT_US
    assert third - second == 2 * SECOND_US
    assert found.stale == {first, second}
    assert found.facts_at_us == second + SECOND_US


def test_each_long_gap_is_shortened() -> None:
    found = without_clock_jumps(course(1_000, 1_002, 2_000), SETTINGS)

    ended_us = 100 * SECOND_US
    assert times(found) == [
        ended_us + KEPT_US,
        ended_us + KEPT_US + 2 * SECOND_US,
        ended_us + 2 * KEPT_US + 2 * SECOND_US,
    ]


def test_clock_that_was_set_back_a_little_causes_no_gap() -> None:
    seen = course(150, 105, 175)

    assert without_clock_jumps(seen, SETTINGS) is seen


@pytest.mark.parametrize(("facts_s", "later_us"), [(None, None), (101, 0), (102, 0), (499, 0), (500, 1)])
def test_facts_keep_their_distance_from_the_poll_before_them(facts_s: int | None, later_us: int | None) -> None:
    found = without_clock_jumps(course(102, 500, facts_s=facts_s), SETTINGS)

    if facts_s is None:
        assert found.facts_at_us is None
    elif later_us:
        assert found.facts_at_us == times(found)[1]
    else:
        assert found.facts_at_us == facts_s * SECOND_US
