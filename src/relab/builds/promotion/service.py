"""Use cases of promotion: read a project's policy (rule that chooses build actions), and replace it by a better one.

The policy is stored in a versioned feature flag, so each change has an author and can be undone.
"""

from __future__ import annotations

import hashlib
import re
from math import isfinite
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

from pydantic import BaseModel, ConfigDict, Field

from relab.builds.errors import (
    DecisionLogError,
    PolicyFlagError,
    PolicyInUseError,
    UnknownBuildActionError,
    UnknownPolicyError,
)
from relab.builds.optimizer.catalogue import DEFAULT_POLICY
from relab.builds.optimizer.decisions import POLICY_PATTERN, ProjectName
from relab.core.clock import Clock
from relab.core.errors import ConflictError, NotFoundError
from relab.flags.models import FlagContent, FlagVersion
from relab.flags.service import FlagService
from relab.stats.verdicts import Verdict
from relab.storage import Database

if TYPE_CHECKING:
    from relab.builds.optimizer.evaluation import PolicyEvaluation, PolicyValue
    from relab.builds.optimizer.model_store import ModelStore
    from relab.stats.intervals import Interval

FLAG: Final = "builds.policy"
"""The key of the flag with the policy of the projects that have no flag of their own."""
_SLUG_LENGTH: Final = 60
_DIGEST_LENGTH: Final = 12


class PromotionRequest(BaseModel):
    """A request to use a policy for a project if it is better than the policy that the project uses now.

    A policy is the rule that chooses actions (changes of the configuration) for builds.
    """

    model_config = ConfigDict(extra="forbid")

    project: ProjectName
    # Described in the schema and checked later, where the error names the possible values.
    policy: Annotated[str, Field(min_length=1, max_length=32, json_schema_extra={"pattern": POLICY_PATTERN})]


class Promotion(BaseModel):
    """The result of a request to promote a policy (rule that chooses build actions): to put it into use for a project.

    Attributes:
        project, policy: the project, and the policy to promote.
        replaced: the policy that the project used before.
        verdict, reason: the verdict, and the reason for it in one sentence. With PASS, the policy is in use.
        gain, low, high: the estimated gain in mean reward, and the limits of its confidence interval. The limits are
            None if the log does not determine the gain, because both policies choose the same action in each logged
            situation, or no build after a decision succeeded.
        count, effective_count: the number of evaluated decisions, and the effective sample size (the number of
            decisions of equal weight that would carry as much information).
        flag: the key of the flag that holds the policy of this project; None without a PASS.
        version: the new version of the flag, which contains the promoted policy; None without a PASS.
        restores: the version of the flag that contains the replaced policy; None without a PASS.
        inverse: the command that undoes the promotion; it works until the flag is changed again. None without a PASS.
    """

    project: str
    policy: str
    replaced: str
    verdict: Verdict
    reason: str
    gain: float
    low: float | None
    high: float | None
    count: int
    effective_count: float
    flag: str | None = None
    version: int | None = None
    restores: int | None = None
    inverse: str | None = None


class RewardEstimate(BaseModel):
    """An estimated mean reward with the limits of its confidence interval.

    The limits are None if the log has no information about the reward.
    """

    estimate: float
    low: float | None
    high: float | None


class PolicyEstimates(BaseModel):
    """The mean reward that a policy (rule that chooses build actions) would earn, by two estimators.

    Both estimate from logged decisions.

    Attributes:
        snips: the self-normalized importance sampling estimate.
        doubly_robust: the doubly robust estimate.
        effective_count: the effective sample size: the number of decisions of equal weight that would carry as much
            information.
    """

    snips: RewardEstimate
    doubly_robust: RewardEstimate
    effective_count: float


class ProjectPolicies(BaseModel):
    """The policy (rule that chooses build actions) of a project, and the expected reward of each policy there.

    Attributes:
        project: the name of the project.
        policy: the policy that the project uses if a request names no policy.
        flag: the key of the project's flag; the flag exists only after the first promotion.
        estimates: `{policy: estimated mean reward of the policy in the project's builds}`. The estimates use the newer
            half of the project's logged decisions; with too few decisions, there are no estimates.
    """

    project: str
    policy: str
    flag: str
    estimates: dict[str, PolicyEstimates]


def flag_of(project: str) -> str:
    """Return the key of the flag that names a project's policy (the rule that chooses build actions).

    The key contains the name of the project and a digest of the name. In the name, hyphens replace the characters that
    are invalid in a key.
    """
    slug = re.sub(r"[^A-Za-z0-9._-]+", "-", project)[:_SLUG_LENGTH]
    return f"{FLAG}.{slug}-{hashlib.sha256(project.encode()).hexdigest()[:_DIGEST_LENGTH]}"


class PromotionService:
    """Reads, evaluates and replaces the policy (rule that chooses build actions) of each project.

    Args:
        database, clock: the database and the clock of this process.
        flags: the feature flags of this installation; the policy of a project is stored in one of them.
        models: the folder of trained policies.
    """

    def __init__(self, database: Database, clock: Clock, flags: FlagService, *, models: Path) -> None:
        self._database = database
        self._clock = clock
        self._flags = flags
        self._models = models

    def policy_of(self, project: str) -> str:
        """Return a project's policy (rule that chooses build actions), which is used for requests that name no policy.

        The first of these that exists decides: the project's own feature flag, the feature flag `builds.policy`, the
        default `ucb`. The flags are evaluated with the name of the project as the targeting key.

        Raises:
            PolicyFlagError: the value of the flag is not the name of a policy.
        """
        from relab.builds.optimizer.policies.registry import check_policy

        key, policy = self._stored_policy(project)
        try:
            check_policy(policy)
        except (UnknownPolicyError, UnknownBuildActionError) as error:
            raise PolicyFlagError(key, policy, error) from error
        return policy

    def _stored_policy(self, project: str) -> tuple[str, str]:
        """Return `(key, policy)`: the feature flag that names a project's policy (rule that chooses build actions).

        The flag is the project's own flag or, if it does not exist, `builds.policy`. If neither exists, the result is
        `builds.policy` with the default policy. A policy with this name may not exist.
        """
        # An empty targeting key would count as missing.
        context = {"project": project, "targetingKey": project or "-"}
        for key in (flag_of(project), FLAG):
            try:
                return key, str(self._flags.evaluate(key, context).value)
            except NotFoundError:
                continue
        return FLAG, DEFAULT_POLICY

    def policies(self, project: str) -> ProjectPolicies:
        """Return a project's policy (rule that chooses build actions), and the estimated mean reward of each policy.

        The rewards are estimated from the project's log of decisions. If the log is too short, there are no estimates.

        Raises:
            PolicyModelError, RlExtraMissingError: the policy `dqn` has a trained network, which cannot be read.
        """
        import numpy as np

        from relab.builds.optimizer.optimizer import BuildOptimizer
        from relab.builds.optimizer.policies.registry import usable_policies
        from relab.builds.optimizer.store import DecisionStore

        models = self._model_store()
        optimizer = BuildOptimizer(DecisionStore(self._database), self._clock, np.random.default_rng(), models)
        try:
            found = optimizer.evaluate(usable_policies(models), project)
        except DecisionLogError:
            found = {}
        return ProjectPolicies(
            project=project,
            policy=self._stored_policy(project)[1],
            flag=flag_of(project),
            estimates={name: _estimates(evaluation) for name, evaluation in found.items()},
        )

    def promote(self, policy: str, project: str, *, author: str) -> Promotion:
        """Judge whether a policy is better than a project's current policy; if the verdict is PASS, put it into use.

        A policy is a rule that chooses build actions.

        Both policies learn from the older half of the project's log of decisions, and are evaluated on the newer half.

        Args:
            policy: the name of the policy.
            project: the name of the project.
            author: the person who promotes the policy, for the history of the flag.

        Raises:
            UnknownPolicyError, UnknownBuildActionError: no policy has this name.
            PolicyFlagError: the value of the flag with the current policy is not the name of a policy.
            PolicyInUseError: the project uses this policy already.
            DecisionLogError: the log is too short.
            PolicyModelMissingError, PolicyModelError, RlExtraMissingError: the policy is `dqn`, and cannot be used.
            StaleFlagVersionError: another promotion changed the flag first.
            FlagArchivedError: a person has archived the flag of the project.
        """
        from relab.builds.optimizer.evaluation import halves, train
        from relab.builds.optimizer.optimizer import logged_decisions
        from relab.builds.optimizer.policies.registry import make_policy
        from relab.builds.optimizer.store import DecisionStore
        from relab.builds.promotion.judging import judge

        # Read before the comparison, so that a change of the flag during the comparison is not overwritten.
        before, replaced, models = self._flag(project), self.policy_of(project), self._model_store()
        candidate, current = make_policy(policy, models), make_policy(replaced, models)
        if policy == replaced:
            raise PolicyInUseError(project, policy)
        older, newer = halves(logged_decisions(DecisionStore(self._database), project), project)
        found = judge(train(candidate, older), train(current, older), newer)
        low, high = finite_ends(found.interval)
        promotion = Promotion(
            project=project,
            policy=policy,
            replaced=replaced,
            verdict=found.verdict,
            reason=found.reason,
            gain=found.gain,
            low=low,
            high=high,
            count=found.count,
            effective_count=found.effective_count,
        )
        if found.verdict is not Verdict.PASS:
            return promotion
        return self._put_into_use(promotion, before, author)

    def _put_into_use(self, promotion: Promotion, before: FlagVersion | None, author: str) -> Promotion:
        """Store the promoted policy in the project's feature flag.

        Return a copy of `promotion` with the key of the flag, its new version, the version with the replaced policy,
        and the command that restores that version.

        Args:
            promotion: the result of the comparison of the two policies.
            before: the version of the flag before the comparison; None if the flag did not exist.
            author: the person who promotes the policy.
        """
        key, expected = flag_of(promotion.project), set()
        try:
            if before is None:
                content, note = (
                    _content(promotion.project, promotion.replaced),
                    "The policy before the first promotion.",
                )
                # The first version has the replaced policy, so that the first promotion can be undone too.
                before = self._flags.create(key, content, author=author, note=note)
            expected = {before.version}
        except ConflictError:
            # Another promotion has created the flag since the verdict, so the update below is rejected as stale.
            before = self._flags.get(key)
        note = f"Promote {promotion.policy} in place of {promotion.replaced}. {promotion.reason}"
        content = _content(promotion.project, promotion.policy)
        after = self._flags.update(key, content, expected=expected, author=author, note=note)
        inverse = f"lab flags rollback {key} --to {before.version} --if-version {after.version}"
        return promotion.model_copy(
            update={"flag": key, "version": after.version, "restores": before.version, "inverse": inverse}
        )

    def _flag(self, project: str) -> FlagVersion | None:
        try:
            return self._flags.get(flag_of(project))
        except NotFoundError:
            return None

    def _model_store(self) -> ModelStore:
        from relab.builds.monitor.simulator import shipped_digest
        from relab.builds.optimizer.model_store import ModelStore

        return ModelStore(self._models, shipped_digest())


def _estimates(found: PolicyEvaluation) -> PolicyEstimates:
    return PolicyEstimates(
        snips=_estimate(found.snips),
        doubly_robust=_estimate(found.doubly_robust),
        effective_count=found.snips.effective_count,
    )


def _estimate(value: PolicyValue) -> RewardEstimate:
    low, high = finite_ends(value.interval)
    return RewardEstimate(estimate=value.estimate, low=low, high=high)


def finite_ends(interval: Interval) -> tuple[float, float] | tuple[None, None]:
    """Return the lower and the upper limit of a confidence interval; `(None, None)` if the interval is infinite.

    JSON has no infinite numbers.
    """
    return (interval.low, interval.high) if isfinite(interval.low) and isfinite(interval.high) else (None, None)


def _content(project: str, policy: str) -> FlagContent:
    variant = policy.replace(":", "-")
    return FlagContent(
        description=f"The policy that decides for the builds of the project {project[:200]!r}.",
        value_type="string",
        variants={variant: policy},
        default_variant=variant,
    )
