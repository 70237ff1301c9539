"""Off-policy evaluation: estimate from logged decisions the reward that another policy would have earned. Pure.

SNIPS: Swaminathan, Joachims (2015), "The Self-Normalized Estimator for Counterfactual Learning".
Doubly robust: Dudík, Langford, Li (2011), "Doubly Robust Policy Evaluation and Learning".
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from relab.builds.errors import DecisionLogError
from relab.builds.optimizer.policies.protocol import BuildPolicy
from relab.builds.optimizer.situation import Features
from relab.stats.distributions import t_quantile
from relab.stats.intervals import LEVEL, Interval

LEAST_DECISIONS: Final = 30
_RIDGE: Final = 1.0


@dataclass(frozen=True, slots=True)
class LoggedDecision:
    """One logged decision with its reward. The policy that made the decision is the logging policy.

    Attributes:
        features: the situation of the decision as numbers, one for each name in `situation.FEATURES`.
        actions: the ids of the possible actions.
        propensities: the logging policy's probability of choosing each of `actions`.
        action_id: the chosen action; its probability is more than 0.
        reward: the reward of the build that followed, 0 to 1.
        group: the number of the decision's pass (a build and its retries). Decisions of one pass are not independent.
    """

    features: Features
    actions: Sequence[int]
    propensities: Sequence[float]
    action_id: int
    reward: float
    group: int

    @property
    def index(self) -> int:
        """The index of the chosen action in `actions`."""
        return self.actions.index(self.action_id)


@dataclass(frozen=True, slots=True)
class PolicyValue:
    """The estimated mean reward of a policy, by one estimator.

    Attributes:
        estimate: the mean reward, 0 to 1; the doubly robust estimate can leave this range.
        interval: the confidence interval of the mean reward, by a linear approximation of the estimator (delta
            method). The decisions of one pass (a build and its retries) count as dependent.
        effective_count: the effective sample size: the number of decisions of equal weight that would carry as much
            information.
    """

    estimate: float
    interval: Interval
    effective_count: float


@dataclass(frozen=True, slots=True)
class PolicyEvaluation:
    """The estimated mean reward of a policy, by two estimators, from logged decisions.

    Attributes:
        snips: the self-normalized importance sampling estimate.
        doubly_robust: the doubly robust estimate.
        logged: the mean reward that the logged decisions earned, for comparison.
        count: the number of logged decisions.
    """

    snips: PolicyValue
    doubly_robust: PolicyValue
    logged: float
    count: int


def train(policy: BuildPolicy, decisions: Sequence[LoggedDecision]) -> BuildPolicy:
    """Train a policy on decisions and their rewards, in the given order; return the same policy."""
    for decision in decisions:
        policy.learn(decision.features, decision.action_id, decision.reward)
    return policy


def evaluate(policy: BuildPolicy, decisions: Sequence[LoggedDecision]) -> PolicyEvaluation:
    """Estimate the mean reward that a policy would have earned if it had made the logged decisions.

    The policy does not learn from the decisions.

    Args:
        policy: the policy; it must not have learnt from these decisions before.
        decisions: the logged decisions.

    Raises:
        DecisionLogError: there are fewer than 30 decisions.
    """
    require_enough(decisions)
    chances = _chances(policy, decisions)
    rewards = np.array([decision.reward for decision in decisions])
    weights = _weights(chances, decisions)
    total = weights.sum()
    effective = _effective(chances, decisions)
    snips = float(weights @ rewards / total) if total > 0 else 0.0
    errors = weights * (rewards - snips) / weights.mean() if total > 0 else np.full(len(rewards), np.inf)
    robust = _robust(chances, weights, decisions)
    return PolicyEvaluation(
        snips=_value(snips, errors, effective, decisions, "SNIPS"),
        doubly_robust=_value(float(robust.mean()), robust - robust.mean(), effective, decisions, "doubly robust"),
        logged=float(rewards.mean()),
        count=len(decisions),
    )


def doubly_robust_rewards(policy: BuildPolicy, decisions: Sequence[LoggedDecision]) -> NDArray[np.float64]:
    """Return, for each logged decision, the doubly robust estimate of the reward that `policy` would have earned.

    The mean of these numbers is `PolicyEvaluation.doubly_robust.estimate`.

    Args:
        policy: the policy; it must not have learnt from these decisions.
        decisions: the logged decisions.

    Raises:
        DecisionLogError: there are fewer than 30 decisions.
    """
    require_enough(decisions)
    chances = _chances(policy, decisions)
    return _robust(chances, _weights(chances, decisions), decisions)


def effective_count(policy: BuildPolicy, decisions: Sequence[LoggedDecision]) -> float:
    """Return the effective sample size of logged decisions for the evaluation of a policy.

    This is the number of decisions of equal weight that would carry as much information about the policy. It is 0 if
    the policy may choose an action that the logging policies never choose.
    """
    return _effective(_chances(policy, decisions), decisions)


def _chances(policy: BuildPolicy, decisions: Sequence[LoggedDecision]) -> list[NDArray[np.float64]]:
    """Return, for each decision, the policy's probability of each possible action.

    If the policy estimates its probabilities by sampling, a fixed seed makes the result repeatable.
    """
    generator = np.random.default_rng(0)
    return [policy.propensities(decision.features, decision.actions, generator) for decision in decisions]


def halves(decisions: Sequence[LoggedDecision], project: str) -> tuple[list[LoggedDecision], list[LoggedDecision]]:
    """Return the older and the newer half of a project's log of decisions.

    Policies learn from the older half, and are evaluated on the newer half.

    Raises:
        DecisionLogError: a half would have fewer than 30 decisions.
    """
    if len(decisions) < 2 * LEAST_DECISIONS:
        raise DecisionLogError(
            f"The project {project[:200]!r} has {len(decisions)} decisions with an outcome; an evaluation needs at least "
            f"{2 * LEAST_DECISIONS}, because it learns from the older half and judges on the newer half.",
            remedy="List them: lab builds decisions",
        )
    half = len(decisions) // 2
    return list(decisions[:half]), list(decisions[half:])


def require_enough(decisions: Sequence[LoggedDecision]) -> None:
    """Check that there are enough decisions to evaluate a policy.

    Raises:
        DecisionLogError: there are fewer than 30 decisions.
    """
    if len(decisions) < LEAST_DECISIONS:
        raise DecisionLogError(
            f"The log has {len(decisions)} decisions with an outcome to evaluate a policy on; at least {LEAST_DECISIONS} are needed."
        )


def _weights(chances: Sequence[NDArray[np.float64]], decisions: Sequence[LoggedDecision]) -> NDArray[np.float64]:
    """Return the importance weight of each decision.

    The weight is the evaluated policy's probability of choosing the logged action, divided by the logged propensity of
    this action.

    Args:
        chances: for each decision, the evaluated policy's probability of each possible action.
        decisions: the logged decisions.
    """
    return np.array(
        [
            chance[decision.index] / decision.propensities[decision.index]
            for chance, decision in zip(chances, decisions, strict=True)
        ]
    )


def _effective(chances: Sequence[NDArray[np.float64]], decisions: Sequence[LoggedDecision]) -> float:
    """Return the effective sample size: the number of decisions of equal weight that would carry as much information.

    The formula is Kish's, `(sum of weights)^2 / sum of squared weights`. The weight of a decision is the evaluated
    policy's probability of the logged action, divided by the logged propensity. Both sums are expected values: they use
    all actions that the logging policy could have chosen, not only the logged ones. The result is 0 if the evaluated
    policy may choose an action whose logged propensity is 0.

    Args:
        chances: for each decision, the evaluated policy's probability of each possible action.
        decisions: the logged decisions.
    """
    squares = 0.0
    for chance, decision in zip(chances, decisions, strict=True):
        logged = np.asarray(decision.propensities)
        wanted = chance > 0
        if (logged[wanted] <= 0).any():
            return 0.0
        # Expected over the actions: the chosen actions alone may by chance have no large weight, and the result be too
        # large.
        squares += float((chance[wanted] ** 2 / logged[wanted]).sum())
    return len(decisions) ** 2 / squares


def _robust(
    chances: Sequence[NDArray[np.float64]], weights: NDArray[np.float64], decisions: Sequence[LoggedDecision]
) -> NDArray[np.float64]:
    predicted = _cross_fitted(decisions)
    model = np.array([chance @ values for chance, values in zip(chances, predicted, strict=True)])
    own = np.array([values[decision.index] for values, decision in zip(predicted, decisions, strict=True)])
    rewards = np.array([decision.reward for decision in decisions])
    found: NDArray[np.float64] = model + weights * (rewards - own)
    return found


def _value(
    estimate: float, errors: NDArray[np.float64], effective: float, decisions: Sequence[LoggedDecision], method: str
) -> PolicyValue:
    # Decisions of one pass share its input, so the variance is that of the sums over passes.
    _, places = np.unique([decision.group for decision in decisions], return_inverse=True)
    sums = np.bincount(places, weights=errors)
    # With few effective decisions, the quantile of Student's distribution is wider.
    quantile = t_quantile(0.5 + LEVEL / 2, max(effective - 1, 1.0))
    half = np.inf
    if np.isfinite(errors).all() and len(sums) > 1:
        half = quantile * float(np.sqrt((sums**2).sum() * len(sums) / (len(sums) - 1))) / len(errors)
    return PolicyValue(estimate, Interval(estimate - half, estimate + half, LEVEL, method), effective)


def _cross_fitted(decisions: Sequence[LoggedDecision]) -> list[NDArray[np.float64]]:
    """Return, for each decision, the predicted reward of each possible action (cross-fitting).

    Decisions at even positions are predicted by regressions that are fitted to the decisions at odd positions, and vice
    versa. So no decision is predicted from its own reward.
    """
    halves = np.arange(len(decisions)) % 2
    models = [
        _fit([decision for decision, half in zip(decisions, halves, strict=True) if half != own]) for own in (0, 1)
    ]
    found = []
    for decision, half in zip(decisions, halves, strict=True):
        x = np.asarray(decision.features)
        fitted, mean = models[half]
        found.append(np.array([fitted[action] @ x if action in fitted else mean for action in decision.actions]))
    return found


def _fit(decisions: Sequence[LoggedDecision]) -> tuple[dict[int, NDArray[np.float64]], float]:
    """Fit, for each action that was chosen, a ridge regression of its reward; return `({action: coefficients}, mean)`.

    `mean` is the mean reward of all decisions. It is the prediction for an action that was never chosen.
    """
    fitted = {}
    for action in {decision.action_id for decision in decisions}:
        own = [decision for decision in decisions if decision.action_id == action]
        x = np.array([decision.features for decision in own])
        y = np.array([decision.reward for decision in own])
        fitted[action] = np.linalg.solve(x.T @ x + _RIDGE * np.eye(x.shape[1]), x.T @ y)
    return fitted, float(np.mean([decision.reward for decision in decisions]))
