"""The action catalogue: changes of each action, builds that allow it, and errors for unknown names."""

from __future__ import annotations

import re

import pytest

from relab.builds.errors import UnknownBuildActionError, UnknownPolicyError
from relab.builds.models import ACTION_IDS, BuildConfiguration, BuildFailure
from relab.builds.optimizer.catalogue import CATALOGUE, action_of, possible_actions, suitable_actions
from relab.builds.optimizer.decisions import POLICY_PATTERN, BuildSymptoms
from relab.builds.optimizer.policies.registry import POLICY_CHOICES, POLICY_NAMES, make_policy
from relab.builds.optimizer.situation import failure_in

LIMITS = {"memory_mb": 3_000.0, "time_limit_s": 60.0, "parallelism": 4.0, "retries": 1.0}
BEFORE = BuildConfiguration(memory_mb=2_048, time_limit_s=20.0)


def test_action_1_is_use_cache() -> None:
    assert CATALOGUE[1].description == "use cache"
    assert CATALOGUE[1].apply(BEFORE, LIMITS.__getitem__, ()) == BEFORE.model_copy(update={"cache": True})


def test_raised_limit_stays_below_that_of_the_project() -> None:
    after = possible_actions(BEFORE, LIMITS.__getitem__, ())

    assert after[2].memory_mb == 3_000
    assert after[3].time_limit_s == 40.0
    assert after[4].parallelism == 4


def test_action_that_changes_nothing_is_not_possible_except_keep() -> None:
    at_the_limit = BuildConfiguration(cache=True, memory_mb=3_000, time_limit_s=60.0, parallelism=4)

    assert list(possible_actions(at_the_limit, LIMITS.__getitem__, ("all",))) == [0, 5, 6, 7]


def test_tests_are_selected_only_where_the_project_has_fast_ones() -> None:
    assert 8 not in possible_actions(BEFORE, LIMITS.__getitem__, ("all",))
    assert possible_actions(BEFORE, LIMITS.__getitem__, ("all", "fast"))[8].tests == "fast"


@pytest.mark.parametrize(
    ("failure", "left_out"),
    [
        (BuildFailure.EXIT_CODE, {3, 8}),
        (BuildFailure.SIGNAL, {3, 8}),
        (BuildFailure.OUT_OF_MEMORY, {3, 4}),
        (BuildFailure.PROCESS_LIMIT, {3, 4}),
        (BuildFailure.DISK_LIMIT, {3}),
        (BuildFailure.TIMED_OUT, set()),
        (None, {3, 8}),
    ],
)
def test_failure_decides_whether_more_jobs_a_longer_limit_or_fewer_tests_may_help(
    failure: BuildFailure | None, left_out: set[int]
) -> None:
    assert set(CATALOGUE) - set(suitable_actions(CATALOGUE, failure)) == left_out


def test_ci_that_names_no_actions_is_offered_the_suitable_ones() -> None:
    assert BuildSymptoms(error="Exit code 1").possible_actions() == [0, 1, 2, 4, 5, 6]
    assert BuildSymptoms(error="timed out").possible_actions() == [0, 1, 2, 3, 4, 5, 6, 8]
    assert BuildSymptoms(error="Exit code 1", actions=[0, 8]).possible_actions() == [0, 8]


def test_unknown_action_is_named() -> None:
    with pytest.raises(UnknownBuildActionError, match="no action 99 in version 1"):
        action_of(99)


@pytest.mark.parametrize("name", ["best", "fixed:", "fixed:x", "fixed:-1", "linucb:1"])
def test_unknown_policy_is_named(name: str) -> None:
    with pytest.raises(UnknownPolicyError, match="no policy"):
        make_policy(name)


def test_described_requests_allow_every_policy_and_action() -> None:
    names = [*POLICY_NAMES, *(f"fixed:{action_id}" for action_id in CATALOGUE)]

    assert tuple(CATALOGUE) == ACTION_IDS
    assert [name for name in names if not re.search(POLICY_PATTERN, name)] == []
    assert not re.search(POLICY_PATTERN, f"fixed:{max(CATALOGUE) + 1}")
    assert POLICY_CHOICES.split(" | ") == [*POLICY_NAMES, "fixed:ACTION_ID"]


def test_fixed_policy_with_an_unknown_action_is_rejected() -> None:
    with pytest.raises(UnknownBuildActionError):
        make_policy("fixed:99")


@pytest.mark.parametrize(
    ("error", "failure"),
    [
        ("Out of memory during build", BuildFailure.OUT_OF_MEMORY),
        ("Job timed out after 60 minutes", BuildFailure.TIMED_OUT),
        ("ld: cannot find -lz", BuildFailure.EXIT_CODE),
        ("", None),
        (None, None),
    ],
)
def test_failure_is_read_from_the_error(error: str | None, failure: BuildFailure | None) -> None:
    assert failure_in(error) is failure
