"""Use cases of promotion. The policy of each project is a versioned flag of its own, so each change has an author and an inverse."""

from __future__ import annotations

import hashlib
import re
from math import isfinite
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

from pydantic import BaseModel, ConfigDict, Field

from relab.builds.errors import DecisionLogError, PolicyInUseError
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
    """Which policy is to be judged for which project."""

    model_config = ConfigDict(extra="forbid")

    project: ProjectName
    # Described in the schema and checked later, where the error names the possible values.
    policy: Annotated[str, Field(min_length=1, max_length=32, json_schema_extra={"pattern": POLICY_PATTERN})]


class Promotion(BaseModel):
    """A judged promotion.

    Attributes:
        project, policy: which policy was judged, for which project.
        replaced: the policy that the project had.
        verdict, reason: the verdict and its reason; the policy is in use if the verdict is PASS.
        gain, low, high: the estimated gain in mean reward, and the ends of its interval; the ends are None if both
            policies choose alike in the log, so that nothing is known about the difference.
        count, effective_count: number of decisions that were judged, and of equal weight.
        flag: the key of the flag with the policy of this project alone; None without a PASS.
        version: the version of the flag that puts the policy into use; None without a PASS.
        restores: the version of the flag that has the replaced policy; None without a PASS.
        inverse: the command that takes the change back if nothing has changed the flag since; None without a PASS.
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
    """An estimated mean reward with the ends of its interval, which are None if the log says nothing about it."""

    estimate: float
    low: float | None
    high: float | None


class PolicyEstimates(BaseModel):
    """What a policy would earn, by two estimators, and the number of decisions of equal weight that say as much about it."""

    snips: RewardEstimate
    doubly_robust: RewardEstimate
    effective_count: float


class ProjectPolicies(BaseModel):
    """The policy of a project, and what each policy would earn.

    Attributes:
        project: the name of the project.
        policy: the policy that decides unless a request names another one.
        flag: the key of the flag that a promotion changes; it exists since the first promotion.
        estimates: by policy, its mean reward on the newer half of the log; empty if the log is too short.
    """

    project: str
    policy: str
    flag: str
    estimates: dict[str, PolicyEstimates]


def flag_of(project: str) -> str:
    """Return the key of the flag with the policy of a project: its name as far as a key can have it, and a digest."""
    slug = re.sub(r"[^A-Za-z0-9._-]+", "-", project)[:_SLUG_LENGTH]
    return f"{FLAG}.{slug}-{hashlib.sha256(project.encode()).hexdigest()[:_DIGEST_LENGTH]}"


class PromotionService:
    """Promotes policies, and says which one a project uses.

    Args:
        database, clock: those of this process.
        flags: the product's flags.
        models: the folder of trained policies.
    """

    def __init__(self, database: Database, clock: Clock, flags: FlagService, *, models: Path) -> None:
        self._database = database
        self._clock = clock
        self._flags = flags
        self._models = models

    def policy_of(self, project: str) -> str:
        """Return the name of the policy that decides for a project unless a request names another one.

        It is the value of the project's own flag, else of the flag `builds.policy`, else `linucb`.
        """
        for key in (flag_of(project), FLAG):
            try:
                return str(self._flags.evaluate(key, {"project": project}).value)
            except NotFoundError:
                continue
        return DEFAULT_POLICY

    def policies(self, project: str) -> ProjectPolicies:
        """Return the policy of a project, and what each policy would earn on its log of decisions."""
        import numpy as np

        from relab.builds.optimizer.optimizer import BuildOptimizer
        from relab.builds.optimizer.policies.registry import DQN, POLICIES
        from relab.builds.optimizer.store import DecisionStore

        models = self._model_store()
        optimizer = BuildOptimizer(DecisionStore(self._database), self._clock, np.random.default_rng(), models)
        names = [*POLICIES] if models.newest() is None else [*POLICIES, DQN]
        try:
            found = optimizer.evaluate(names, project)
        except DecisionLogError:
            found = {}
        return ProjectPolicies(
            project=project,
            policy=self.policy_of(project),
            flag=flag_of(project),
            estimates={name: _estimates(evaluation) for name, evaluation in found.items()},
        )

    def promote(self, policy: str, project: str, *, author: str) -> Promotion:
        """Judge a policy against the one that a project uses, and put it into use if the verdict is PASS.

        Both learn from the older half of the project's log of decisions, and are judged on the newer half.

        Args:
            policy: the name of the policy.
            project: the name of the project.
            author: who promotes it, for the history of the flag.

        Raises:
            UnknownPolicyError, UnknownBuildActionError: no policy has this name.
            PolicyInUseError: the project uses this policy already.
            DecisionLogError: the log is too short.
            PolicyModelMissingError, PolicyModelError, RlExtraMissingError: the policy is `dqn`, and cannot be used.
            StaleFlagVersionError: another promotion was faster.
            FlagArchivedError: a person has archived the flag of the project.
        """
        from relab.builds.optimizer.evaluation import halves, train
        from relab.builds.optimizer.optimizer import logged_decisions
        from relab.builds.optimizer.policies.registry import make_policy
        from relab.builds.optimizer.store import DecisionStore
        from relab.builds.promotion.judging import judge

        # Read before the verdict: a change of the flag since then is not overwritten.
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
        """Give the project's flag a version with the promoted policy, and return the promotion with its inverse.

        Without a flag, it is created with the replaced policy first, so that the first promotion has an inverse too.
        """
        key, expected = flag_of(promotion.project), set()
        try:
            if before is None:
                content, note = (
                    _content(promotion.project, promotion.replaced),
                    "The policy before the first promotion.",
                )
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
    """Return the ends of an interval; None if it is infinite, because JSON has no infinite numbers."""
    return (interval.low, interval.high) if isfinite(interval.low) and isfinite(interval.high) else (None, None)


def _content(project: str, policy: str) -> FlagContent:
    variant = policy.replace(":", "-")
    return FlagContent(
        description=f"The policy that decides for the builds of the project {project[:200]!r}.",
        value_type="string",
        variants={variant: policy},
        default_variant=variant,
    )
