"""Judge from the log of decisions whether a policy is better than the current one. Pure functions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import isinf
from typing import Final

from relab.builds.optimizer.evaluation import LoggedDecision, doubly_robust_rewards, effective_count
from relab.builds.optimizer.policies.protocol import BuildPolicy
from relab.stats.intervals import Interval
from relab.stats.paired import paired_delta
from relab.stats.verdicts import Gate, Verdict

LEAST_GAIN: Final = 0.02
"""The least gain in mean reward for which a policy is replaced; at a reward of 0.5, it means builds that are 8 %
faster."""
LEVEL: Final = 0.99
"""The confidence level. A policy that is exactly as good as the current one passes in nominally 0.5 % of judgements. So
it rarely passes by chance, even if it is judged again and again while the log grows (`python -m
evals.build_promotion`)."""
LEAST_EFFECTIVE: Final = 30.0
"""The least effective sample size of the log: the number of decisions of equal weight that would carry as much
information about a policy."""


@dataclass(frozen=True, slots=True)
class PromotionVerdict:
    """The verdict on a candidate: a policy that may replace the current policy.

    A policy is a rule that chooses actions for builds.

    Attributes:
        verdict: PASS: the gain is at least `LEAST_GAIN`, and its interval lies above 0. FAIL: the whole interval lies
            below `LEAST_GAIN`. EDGE: neither PASS nor FAIL. INVALID: the log is not sufficient for a verdict:
            `effective_count` is too small, or the interval is infinite.
        reason: the reason for the verdict in one sentence.
        gain: the estimated mean reward of the candidate minus that of the current policy.
        interval: the confidence interval of the gain. It is infinite if both policies choose the same action in each
            logged situation, or if no build after a decision succeeded.
        count: the number of evaluated decisions.
        effective_count: the effective sample size, for the policy for which it is smaller: the number of decisions of
            equal weight that would carry as much information.
    """

    verdict: Verdict
    reason: str
    gain: float
    interval: Interval
    count: int
    effective_count: float


def judge(candidate: BuildPolicy, current: BuildPolicy, decisions: Sequence[LoggedDecision]) -> PromotionVerdict:
    """Compare a candidate policy with the current policy by their estimated rewards, and return the verdict.

    The doubly robust estimator estimates both rewards, from the same logged decisions.

    Args:
        candidate: the new policy; it must not have learnt from these decisions.
        current: the current policy; it must not have learnt from these decisions.
        decisions: the logged decisions.

    Raises:
        DecisionLogError: there are fewer than 30 decisions.
    """
    rewards = [doubly_robust_rewards(policy, decisions) for policy in (candidate, current)]
    # Paired, because both rewards belong to the same decision; decisions of one pass form a cluster.
    found = paired_delta(list(rewards[0] - rewards[1]), [decision.group for decision in decisions], level=LEVEL)
    effective = min(effective_count(policy, decisions) for policy in (candidate, current))
    has_success = any(decision.reward > 0 for decision in decisions)
    verdict, reason = _decide(found.estimate, found.interval, effective, has_success=has_success)
    return PromotionVerdict(verdict, reason, found.estimate, found.interval, len(decisions), effective)


def _decide(gain: float, interval: Interval, effective: float, *, has_success: bool) -> tuple[Verdict, str]:
    shown = f"the gain is {gain:+.3f} [{interval.low:+.3f}, {interval.high:+.3f}]"
    if effective < LEAST_EFFECTIVE:
        return Verdict.INVALID, (
            f"The log holds only {effective:.0f} effective decisions about these policies; at least {LEAST_EFFECTIVE:.0f} are "
            "needed. Let a policy that explores, such as random, decide for some more builds."
        )
    if isinf(interval.low):
        why = "The policies choose alike in all" if has_success else "No build succeeded after any"
        return Verdict.INVALID, f"{why} of these decisions, so the log cannot tell the policies apart."
    if Gate("reward", at_least=True, threshold=LEAST_GAIN).judge(interval) is Verdict.FAIL:
        return Verdict.FAIL, f"No gain of {LEAST_GAIN} is compatible with the log: {shown}."
    if interval.low > 0 and gain >= LEAST_GAIN:
        return Verdict.PASS, f"The interval lies above 0 and the estimate is at least {LEAST_GAIN}: {shown}."
    return Verdict.EDGE, f"The log is compatible with a gain and without: {shown}. More decisions narrow the interval."
