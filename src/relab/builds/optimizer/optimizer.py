"""Choose the settings of the next build by a policy that learns from the log of decisions, and log each decision."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final

import numpy as np

from relab.builds.errors import DecisionStateError
from relab.builds.optimizer.catalogue import CATALOGUE_VERSION
from relab.builds.optimizer.decisions import BuildDecision
from relab.builds.optimizer.evaluation import LoggedDecision, PolicyEvaluation, evaluate, halves, train
from relab.builds.optimizer.model_store import ModelStore
from relab.builds.optimizer.policies.registry import make_policy
from relab.builds.optimizer.reasons import reason_of
from relab.builds.optimizer.situation import BuildSituation
from relab.builds.optimizer.store import DecisionStore
from relab.core.clock import Clock
from relab.core.ids import new_id

_LEARNT_FROM: Final = 2_000
"""A policy learns from the newest decisions only, so that it follows changes, and a decision takes milliseconds."""


class BuildOptimizer:
    """Chooses the action (change of the configuration) for the next build by a policy, and logs each decision.

    Args:
        store: the log of decisions. For each choice, a new policy is trained on this log.
        clock: the clock.
        generator: the source of randomness.
        models: the trained neural networks, which the policy `dqn` uses to choose actions.
    """

    def __init__(self, store: DecisionStore, clock: Clock, generator: np.random.Generator, models: ModelStore) -> None:
        self._models = models
        self._store = store
        self._clock = clock
        self._generator = generator

    def decide(self, situation: BuildSituation, actions: Sequence[int], *, project: str, policy: str) -> BuildDecision:
        """Choose one of the possible actions by a policy, log the decision, and return it.

        Args:
            situation: the facts about the last build, which the policy uses to choose.
            actions: the ids of the possible actions, at least one.
            project: the name of the project; the policy learns only from the decisions of this project.
            policy: the name of the policy.

        Raises:
            UnknownPolicyError: no policy has this name.
            UnknownBuildActionError: the policy is `fixed:ID` (it always chooses one action), and no action has this ID.
            PolicyModelMissingError, PolicyModelError, RlExtraMissingError: the policy is `dqn`, and cannot be used.
        """
        logged = self.logged(project)
        made = train(make_policy(policy, self._models), logged)
        chances = made.propensities(situation.features(), actions, self._generator)
        index = int(self._generator.choice(len(actions), p=chances))
        decision = BuildDecision(
            decision_id=new_id(),
            project=project,
            catalogue_version=CATALOGUE_VERSION,
            policy=policy,
            situation=situation,
            actions=tuple(actions),
            propensities=tuple(float(chance) for chance in chances),
            action_id=actions[index],
            reason=reason_of(situation, actions, [float(chance) for chance in chances], actions[index], logged),
            decided_at=self._clock.now_us(),
        )
        self._store.add(decision)
        return decision

    def observe(self, decision_id: str, reward: float, *, build_id: str | None) -> BuildDecision:
        """Store the reward of a decision, and return the decision.

        Args:
            decision_id: the id of the decision.
            reward: the reward, 0 to 1.
            build_id: the build that followed the decision; None if this installation has no record of it.

        Raises:
            DecisionNotFoundError: no decision has this id.
            DecisionStateError: the reward of this decision is known already.
        """
        decision = self._store.get(decision_id).model_copy(update={"reward": reward, "build_id": build_id})
        if not self._store.finish(decision):
            raise DecisionStateError(f"The outcome of the decision {decision_id} is known already.")
        return decision

    def logged(self, project: str) -> list[LoggedDecision]:
        """Return a project's newest 2,000 decisions whose reward is known, oldest first, for training and evaluation."""
        return logged_decisions(self._store, project)

    def evaluate(self, policies: Iterable[str], project: str) -> dict[str, PolicyEvaluation]:
        """Estimate the mean reward that each policy would have earned in a project's builds, as `{policy: evaluation}`.

        A policy is a rule that chooses actions for builds. Each policy learns from the older half of the log, and is
        evaluated on the newer half.

        Raises:
            DecisionLogError: the log is too short.
            UnknownPolicyError, UnknownBuildActionError: one of the names is not the name of a policy.
            PolicyModelMissingError, PolicyModelError, RlExtraMissingError: the policy `dqn` cannot be used.
        """
        older, newer = halves(self.logged(project), project)
        return {name: evaluate(train(make_policy(name, self._models), older), newer) for name in policies}


def logged_decisions(store: DecisionStore, project: str) -> list[LoggedDecision]:
    """Return a project's newest 2,000 decisions whose reward is known, oldest first.

    Only decisions with the current version of the catalogue of actions are returned.
    """
    found = store.list_decisions(
        project=project, version=CATALOGUE_VERSION, has_reward=True, before=None, limit=_LEARNT_FROM
    )
    logged, group, attempts = [], 0, 0
    for decision in reversed(found):
        # The number of failed attempts grows within a pass; if it does not grow, the decision belongs to another pass.
        group += decision.situation.failed_attempts <= max(attempts, 1)
        attempts = decision.situation.failed_attempts
        logged.append(
            LoggedDecision(
                decision.situation.features(),
                decision.actions,
                decision.propensities,
                decision.action_id,
                decision.reward or 0.0,
                group,
            )
        )
    return logged
