"""Build policies and their off-policy evaluation, on simulated decisions with known expected rewards."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray

from relab.builds.errors import DecisionLogError
from relab.builds.models import BuildFailure
from relab.builds.optimizer.evaluation import LoggedDecision, effective_count, evaluate, train
from relab.builds.optimizer.policies.protocol import BuildPolicy
from relab.builds.optimizer.policies.registry import POLICIES, make_policy
from relab.builds.optimizer.situation import BuildSituation, Features

ACTIONS = [0, 1, 2, 3]
SITUATIONS = {
    failure: BuildSituation(failure=failure, failed_attempts=1)
    for failure in (BuildFailure.OUT_OF_MEMORY, BuildFailure.TIMED_OUT, BuildFailure.EXIT_CODE)
}
TRUE = {
    BuildFailure.OUT_OF_MEMORY: [0.0, 0.1, 0.8, 0.0],
    BuildFailure.TIMED_OUT: [0.0, 0.3, 0.0, 0.7],
    BuildFailure.EXIT_CODE: [0.5, 0.2, 0.2, 0.2],
}
"""The probability of a reward of 1 for each action."""
_PASSES = itertools.count()


def decide(policy: BuildPolicy, generator: np.random.Generator) -> tuple[LoggedDecision, float]:
    """Let a policy decide once; return the logged decision and the expected reward under the policy's propensities."""
    failure = list(TRUE)[generator.integers(3)]
    features = SITUATIONS[failure].features()
    chances = policy.propensities(features, ACTIONS, generator)
    chosen = int(generator.choice(4, p=chances))
    reward = float(generator.random() < TRUE[failure][chosen])
    logged = LoggedDecision(features, ACTIONS, list(chances), ACTIONS[chosen], reward, next(_PASSES))
    return logged, float(chances @ TRUE[failure])


def played(policy: BuildPolicy, count: int, seed: int) -> tuple[list[LoggedDecision], list[float]]:
    """Let a policy decide `count` times and learn from each decision; return the decisions and expected rewards."""
    generator = np.random.default_rng(seed)
    decisions, expected = [], []
    for _ in range(count):
        decision, value = decide(policy, generator)
        policy.learn(decision.features, decision.action_id, decision.reward)
        decisions.append(decision)
        expected.append(value)
    return decisions, expected


def true_value(policy: BuildPolicy) -> float:
    """Return the expected reward of a policy that does not learn."""
    generator = np.random.default_rng(0)
    values = [
        policy.propensities(SITUATIONS[failure].features(), ACTIONS, generator) @ rewards
        for failure, rewards in TRUE.items()
    ]
    return float(np.mean(values))


@pytest.mark.parametrize("name", list(POLICIES))
def test_propensities_are_probabilities_of_the_possible_actions(name: str) -> None:
    policy = make_policy(name)
    played(policy, 50, seed=1)
    generator = np.random.default_rng(2)

    for possible in ([0, 2], [3], ACTIONS):
        chances = policy.propensities(SITUATIONS[BuildFailure.TIMED_OUT].features(), possible, generator)
        assert len(chances) == len(possible)
        assert chances.min() >= 0
        assert chances.sum() == pytest.approx(1)


@pytest.mark.parametrize("name", ["ucb", "linucb", "thompson"])
@pytest.mark.parametrize("seed", range(3))
def test_contextual_policy_learns_the_action_of_each_situation(name: str, seed: int) -> None:
    _, expected = played(make_policy(name), 600, seed)

    oracle = np.mean([max(rewards) for rewards in TRUE.values()])
    assert np.mean(expected[-100:]) > 0.9 * oracle


@pytest.mark.parametrize(("failure", "raises"), [(BuildFailure.OUT_OF_MEMORY, 2), (BuildFailure.TIMED_OUT, 3)])
def test_ucb_first_raises_the_limit_that_was_hit_and_gives_it_up_when_that_fails(
    failure: BuildFailure, raises: int
) -> None:
    policy, generator = make_policy("ucb"), np.random.default_rng(0)
    features = SITUATIONS[failure].features()

    assert ACTIONS[int(policy.propensities(features, ACTIONS, generator).argmax())] == raises

    for _ in range(3):
        policy.learn(features, raises, 0.0)
    assert ACTIONS[int(policy.propensities(features, ACTIONS, generator).argmax())] not in (raises, 0)


def test_ucb_learns_the_speed_of_an_action_from_all_kinds_of_builds_and_its_success_from_one() -> None:
    policy, generator = make_policy("ucb"), np.random.default_rng(0)
    after_success = BuildSituation().features()
    for _ in range(40):
        for action in (0, 6, 8):
            # Action 6 is fast when it succeeds, but never succeeds after a failure.
            policy.learn(after_success, action, 0.9 if action == 6 else 0.5)
            policy.learn(SITUATIONS[BuildFailure.EXIT_CODE].features(), action, 0.4 if action == 8 else 0.0)

    def best(features: Features) -> int:
        return (0, 6, 8)[int(policy.propensities(features, (0, 6, 8), generator).argmax())]

    assert best(after_success) == 6
    assert best(SITUATIONS[BuildFailure.EXIT_CODE].features()) == 8


def test_random_policy_chooses_all_possible_actions_alike_whatever_it_has_seen() -> None:
    policy = make_policy("random")
    played(policy, 100, seed=4)

    chances = policy.propensities(SITUATIONS[BuildFailure.TIMED_OUT].features(), [0, 2, 6], np.random.default_rng(0))

    assert list(chances) == [1 / 3] * 3


def test_best_fixed_policy_finds_the_action_with_the_best_mean() -> None:
    policy = make_policy("best-fixed")
    played(policy, 600, seed=4)

    chances = policy.propensities(SITUATIONS[BuildFailure.TIMED_OUT].features(), ACTIONS, np.random.default_rng(0))
    assert ACTIONS[int(chances.argmax())] == 2


@pytest.mark.parametrize("name", ["fixed:2", "best-fixed", "ucb", "linucb", "thompson"])
def test_evaluation_of_a_policy_by_the_log_of_another_one_contains_its_true_value(name: str) -> None:
    log, _ = played(make_policy("best-fixed"), 100, seed=5)
    policy = train(make_policy(name), log)
    uniform = [decision for seed in range(20) for decision in played(_Uniform(), 100, seed=100 + seed)[0]]

    found = evaluate(policy, uniform)

    truth = true_value(policy)
    assert found.snips.interval.low < truth < found.snips.interval.high
    assert found.doubly_robust.interval.low < truth < found.doubly_robust.interval.high
    assert found.doubly_robust.interval.high - found.doubly_robust.interval.low < 0.15
    assert found.count == 2_000
    assert found.snips.effective_count < found.count


def test_weighted_estimate_is_accurate_while_the_mean_of_the_log_is_biased() -> None:
    log, _ = played(_Uniform(), 2_000, seed=6)
    policy = make_policy("fixed:2")

    found = evaluate(policy, log)

    assert abs(found.snips.estimate - true_value(policy)) < 0.05
    assert abs(found.logged - true_value(policy)) > 0.07


def test_short_log_is_rejected() -> None:
    log, _ = played(_Uniform(), 29, seed=7)

    with pytest.raises(DecisionLogError, match="29 decisions"):
        evaluate(make_policy("linucb"), log)


def test_effective_count_counts_rare_decisions_that_were_not_drawn() -> None:
    # All drawn weights are equal, so an estimate from them alone would be the full count of 100.
    log = [LoggedDecision((1.0,) * 8, [0, 1], [0.99, 0.01], 0, 0.5, number) for number in range(100)]

    assert effective_count(_Uniform(), log) == pytest.approx(100 / (0.25 / 0.99 + 0.25 / 0.01))
    assert effective_count(make_policy("fixed:0"), log) == pytest.approx(99)


def test_decisions_of_one_pass_are_not_counted_as_independent() -> None:
    log, _ = played(_Uniform(), 200, seed=8)
    # Each decision occurs five times in one group, as repeated decisions about one input do.
    repeated = [replace(decision, group=number) for number, decision in enumerate(log) for _ in range(5)]
    as_if = [replace(decision, group=number) for number, decision in enumerate(repeated)]

    found, naive = (evaluate(make_policy("fixed:2"), decisions).snips.interval for decisions in (repeated, as_if))

    assert found.high - found.low > 2 * (naive.high - naive.low)


def test_effective_count_is_zero_for_an_action_that_the_log_never_chooses() -> None:
    log = [LoggedDecision((1.0,) * 8, [0, 1], [1.0, 0.0], 0, 0.5, number) for number in range(100)]

    assert effective_count(make_policy("fixed:1"), log) == 0.0
    assert effective_count(make_policy("fixed:0"), log) == 100


class _Uniform:
    """A policy that gives every action the same probability."""

    def propensities(
        self,
        features: Features,  # noqa: ARG002 the protocol's
        actions: Sequence[int],
        generator: np.random.Generator,  # noqa: ARG002
    ) -> NDArray[np.float64]:
        return np.full(len(actions), 1 / len(actions))

    def learn(self, features: Features, action_id: int, reward: float) -> None:
        pass
