"""The reason of a decision: the policy's preference or chance, and how often the action worked before."""

from __future__ import annotations

from relab.builds.models import BuildConfiguration, BuildFailure
from relab.builds.optimizer.evaluation import LoggedDecision
from relab.builds.optimizer.reasons import reason_of
from relab.builds.optimizer.situation import BuildSituation


def after(failure: BuildFailure | None) -> BuildSituation:
    return BuildSituation.after(failure, BuildConfiguration(), failed_attempts=1)


def logged(failure: BuildFailure, action_id: int, reward: float) -> LoggedDecision:
    return LoggedDecision(after(failure).features(), (0, 1, 2), (0.2, 0.2, 0.6), action_id, reward, 1)


LOG = [
    logged(BuildFailure.TIMED_OUT, 1, 0.6),
    logged(BuildFailure.TIMED_OUT, 1, 0.0),
    logged(BuildFailure.TIMED_OUT, 2, 0.5),
    logged(BuildFailure.EXIT_CODE, 1, 0.7),
]


def test_builds_with_the_action_after_the_same_kind_of_failure_are_counted() -> None:
    reason = reason_of(after(BuildFailure.TIMED_OUT), (0, 1), (0.1, 0.9), 1, LOG)

    assert (
        reason
        == "the policy prefers it (probability 0.900); after a failure of this kind it succeeded in 1 of 2 builds"
    )


def test_random_choice_is_named_with_the_preferred_action() -> None:
    reason = reason_of(after(BuildFailure.TIMED_OUT), (0, 1), (0.1, 0.9), 0, LOG)

    assert reason == (
        "a random choice, to learn (probability 0.100; preferred: use cache); it is untried after a failure of this kind"
    )


def test_build_without_a_failure_is_a_kind_of_its_own() -> None:
    reason = reason_of(after(None), (0, 1), (0.4, 0.6), 1, LOG)

    assert reason == "the policy prefers it (probability 0.600); it is untried after a build without a failure"


def test_choice_among_equally_probable_actions_is_not_called_a_preference() -> None:
    reason = reason_of(after(BuildFailure.TIMED_OUT), (0, 1), (0.5, 0.5), 1, LOG)

    assert reason == (
        "a random choice: all 2 actions are equally probable; "
        "after a failure of this kind it succeeded in 1 of 2 builds"
    )
    assert reason_of(after(BuildFailure.TIMED_OUT), (0,), (1.0,), 0, LOG).startswith("the policy prefers it")
