"""Use the build optimizer, which chooses changes (actions) of a build's configuration.

The methods of `BuildDecisions` choose an action, store the outcome of a decision, list decisions, and evaluate
policies.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from relab.builds.models import BuildResult, BuildStatus
from relab.builds.optimizer.catalogue import CATALOGUE_VERSION, DEFAULT_POLICY, action_of
from relab.builds.optimizer.decisions import BestAction, BuildDecision, BuildSymptoms, DecisionOutcome, DecisionPage
from relab.builds.optimizer.situation import reward_of
from relab.core.clock import Clock
from relab.storage import Database

if TYPE_CHECKING:
    from relab.builds.optimizer.evaluation import PolicyEvaluation
    from relab.builds.optimizer.model_store import ModelStore
    from relab.builds.optimizer.optimizer import BuildOptimizer


class BuildDecisions:
    """Makes, stores and lists decisions of the build optimizer, and evaluates its policies.

    A decision is the choice of an action, which changes a build's configuration. A policy is the rule that chooses.

    Args:
        database, clock: the database and the clock of this process.
        models: the folder of trained policies.
    """

    def __init__(self, database: Database, clock: Clock, models: Path) -> None:
        self._database = database
        self._clock = clock
        self._models = models

    def best_action(self, symptoms: BuildSymptoms, *, default_policy: str = DEFAULT_POLICY) -> BestAction:
        """Choose the best action for a build with these symptoms, and log the decision.

        Args:
            symptoms: the facts that the caller knows about the build.
            default_policy: the name of the policy (rule that chooses build actions) to use if the symptoms name none.

        Raises:
            UnknownBuildActionError: `symptoms` name an action that does not exist, or the policy is `fixed:ID` (it
                always chooses one action), and no action has this ID.
            UnknownPolicyError: no policy has the name in `symptoms`, or the name `default_policy`.
            PolicyModelMissingError, PolicyModelError, RlExtraMissingError: the policy is `dqn`, and cannot be used.
        """
        decision = self.optimizer().decide(
            symptoms.situation(),
            symptoms.possible_actions(),
            project=symptoms.project,
            policy=symptoms.policy or default_policy,
        )
        return BestAction(
            action_id=decision.action_id,
            action_description=action_of(decision.action_id).description,
            decision_id=decision.decision_id,
            policy=decision.policy,
            propensity=decision.propensity,
            reason=decision.reason,
            catalogue_version=CATALOGUE_VERSION,
        )

    def report_outcome(self, decision_id: str, outcome: DecisionOutcome) -> BuildDecision:
        """Store the outcome of the build that followed a decision, and return the decision with its reward.

        Raises:
            DecisionNotFoundError: no decision has this id.
            DecisionStateError: the outcome of this decision is known already.
        """
        result = BuildResult(status=BuildStatus(outcome.status), duration_s=outcome.duration)
        return self.optimizer().observe(decision_id, reward_of(result, outcome.reference), build_id=None)

    def list_decisions(self, *, project: str | None = None, before: str | None = None, limit: int = 50) -> DecisionPage:
        """Return a page of at most `limit` decisions, newest first.

        Args:
            project: only decisions for the project with this name; None for all projects.
            before: only decisions whose ids are lower than this id; None to begin with the newest.
            limit: the largest number of decisions.
        """
        from relab.builds.optimizer.store import DecisionStore

        items = DecisionStore(self._database).list_decisions(
            project=project, version=None, has_reward=False, before=before, limit=limit + 1
        )
        return DecisionPage(
            items=items[:limit], next_before=items[limit - 1].decision_id if len(items) > limit else None
        )

    def evaluate_policies(self, project: str) -> dict[str, PolicyEvaluation]:
        """Estimate the mean reward that each policy would have earned in a project; return `{policy: evaluation}`.

        A policy is a rule that chooses actions for builds. Each policy learns from the older half of the project's
        logged decisions, and is evaluated on the newer half. The policy `dqn` is left out if it is not trained.

        Raises:
            DecisionLogError: the log of decisions is too short.
            PolicyModelError: the file of the trained policy `dqn` cannot be used.
            RlExtraMissingError: the policy `dqn` is trained, and the extra `[rl]` is not installed.
        """
        from relab.builds.optimizer.policies.registry import usable_policies

        return self.optimizer().evaluate(usable_policies(self.models()), project)

    def optimizer(self) -> BuildOptimizer:
        """Return the build optimizer, which learns from the log of decisions and logs its own decisions there."""
        import numpy as np

        from relab.builds.optimizer.optimizer import BuildOptimizer
        from relab.builds.optimizer.store import DecisionStore

        return BuildOptimizer(DecisionStore(self._database), self._clock, np.random.default_rng(), self.models())

    def models(self) -> ModelStore:
        """Return the store of trained policies."""
        from relab.builds.monitor.simulator import shipped_digest
        from relab.builds.optimizer.model_store import ModelStore

        return ModelStore(self._models, shipped_digest())
