"""Use cases of promotion. The policy of each project is a versioned flag, so each change has an author and an inverse."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from pydantic import BaseModel

from relab.builds.optimizer.catalogue import DEFAULT_POLICY
from relab.core.clock import Clock
from relab.core.errors import ConflictError, NotFoundError
from relab.flags.models import Condition, FlagContent, FlagVersion, Rule, Serve
from relab.flags.service import FlagService
from relab.stats.verdicts import Verdict
from relab.storage import Database

FLAG: Final = "builds.policy"
"""The key of the flag; the value for the attribute `project` is the policy."""


class Promotion(BaseModel):
    """A judged promotion.

    Attributes:
        project, policy: which policy was judged, for which project.
        replaced: the policy that the project had.
        verdict, reason: the verdict and its reason; the policy is in use if the verdict is PASS.
        gain, low, high: the estimated gain in mean reward, and the ends of its 95 % interval.
        count, effective_count: number of decisions that were judged, and of equal weight.
        version: the version of the flag that puts the policy into use; None without a PASS.
        inverse: the command that takes the change back; None without a PASS.
    """

    project: str
    policy: str
    replaced: str
    verdict: Verdict
    reason: str
    gain: float
    low: float
    high: float
    count: int
    effective_count: float
    version: int | None = None
    inverse: str | None = None


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
        """Return the name of the policy that decides for a project unless a request names another one."""
        try:
            return str(self._flags.evaluate(FLAG, {"project": project}).value)
        except NotFoundError:
            return DEFAULT_POLICY

    def promote(self, policy: str, project: str, *, author: str) -> Promotion:
        """Judge a policy against the one that a project uses, and put it into use if the verdict is PASS.

        Both learn from the older half of the project's log of decisions, and are judged on the newer half.

        Args:
            policy: the name of the policy.
            project: the name of the project.
            author: who promotes it, for the history of the flag.

        Raises:
            UnknownPolicyError, UnknownBuildActionError: no policy has this name.
            DecisionLogError: the log is too short.
            PolicyModelMissingError, PolicyModelError, RlExtraMissingError: the policy is `dqn`, and cannot be used.
            StaleFlagVersionError: another promotion was faster.
        """
        from relab.builds.monitor.simulator import shipped_digest
        from relab.builds.optimizer.evaluation import halves, train
        from relab.builds.optimizer.model_store import ModelStore
        from relab.builds.optimizer.optimizer import logged_decisions
        from relab.builds.optimizer.policies.registry import make_policy
        from relab.builds.optimizer.store import DecisionStore
        from relab.builds.promotion.judging import judge

        models, replaced = ModelStore(self._models, shipped_digest()), self.policy_of(project)
        candidate, current = make_policy(policy, models), make_policy(replaced, models)
        older, newer = halves(logged_decisions(DecisionStore(self._database), project), project)
        found = judge(train(candidate, older), train(current, older), newer)
        promotion = Promotion(
            project=project,
            policy=policy,
            replaced=replaced,
            verdict=found.verdict,
            reason=found.reason,
            gain=found.gain,
            low=found.interval.low,
            high=found.interval.high,
            count=found.count,
            effective_count=found.effective_count,
        )
        if found.verdict is not Verdict.PASS:
            return promotion
        before = self._flag(author)
        note = f"Promote {policy} for {project[:200]!r} in place of {replaced}. {found.reason}"
        after = self._flags.update(
            FLAG, _with_policy(before.content, project, policy), expected=[before.version], author=author, note=note
        )
        inverse = f"lab flags rollback {FLAG} --to {before.version}"
        return promotion.model_copy(update={"version": after.version, "inverse": inverse})

    def _flag(self, author: str) -> FlagVersion:
        """Return the flag; create it without a rule if it is missing, so that the first promotion has an inverse."""
        try:
            return self._flags.get(FLAG)
        except NotFoundError:
            content = FlagContent(
                description="The policy that decides for the builds of a project.",
                value_type="string",
                variants={_variant(DEFAULT_POLICY): DEFAULT_POLICY},
                default_variant=_variant(DEFAULT_POLICY),
            )
        try:
            return self._flags.create(FLAG, content, author=author, note="Every project uses the default policy.")
        except ConflictError:
            return self._flags.get(FLAG)


def _with_policy(content: FlagContent, project: str, policy: str) -> FlagContent:
    own = (Condition(attribute="project", op="eq", value=project),)
    rules = [rule for rule in content.rules if rule.conditions != own]
    added = Rule(name=project[:200] or "without a project", conditions=own, serve=Serve(variant=_variant(policy)))
    variants = {**content.variants, _variant(policy): policy}
    # `model_copy` would skip the check that every rule names a variant.
    return FlagContent.model_validate(
        {**content.model_dump(by_alias=True), "variants": variants, "rules": [*rules, added]}
    )


def _variant(policy: str) -> str:
    return policy.replace(":", "-")
