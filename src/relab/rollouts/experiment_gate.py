"""Decide a rollout by an experiment, which has compared two variants, instead of by measurements of the target."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

from pydantic import BaseModel

from relab.core.errors import ConflictError, NotFoundError
from relab.experiments.service import ExperimentService, VariantComparison, find_run
from relab.rollouts.errors import ExperimentEvidenceError, PlanInvalidError, RolloutStateError
from relab.rollouts.models import (
    Arm,
    DecisionPolicy,
    ExperimentEvidence,
    ExperimentQuestion,
    GateFigures,
    RolloutJudgement,
)
from relab.rollouts.plans.models import Plan
from relab.rollouts.record import RolloutRecord, RolloutStatus
from relab.rollouts.targets.opening import RolloutTarget
from relab.stats.verdicts import Verdict, worst

_USED: Final = frozenset(
    {
        "base_url", "timeout", "canary", "report", "subject.flags", "subject.health",
        "experiment.flow_policy", "experiment.target_p95", "experiment.conc_cap", "experiment.batch_cap",
        "experiment.routing_mode", "experiment.topk_threshold",
    }
)  # fmt: skip
"""The fields of a plan that name the target and its flags."""
_USED_BY_CANARY: Final = frozenset(
    {
        "subject.live", "subject.metric", "subject.allow_remote", "experiment.qps", "experiment.mix",
        "experiment.arrivals", "experiment.max_in_flight", "experiment.request_timeout", "experiment.seed",
    }
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class GatedRollout:
    """The result of a rollout that an experiment decided.

    `is_repeat` is true if an earlier rollout has already decided the same plan by the same comparison of variants. Then
    nothing was done, and `record` is the record of the earlier rollout; otherwise, it is that of the new rollout.
    """

    record: RolloutRecord
    is_repeat: bool


def read_evidence(
    service: ExperimentService, question: ExperimentQuestion
) -> tuple[ExperimentEvidence, RolloutJudgement]:
    """Compare a variant with the baseline in a run of an experiment; return `(figures, judgement)`.

    The confidence level holds for the intervals of all variants of the run together. It therefore stays correct if a
    person sees the figures first and then chooses the variant.

    Args:
        service: reads the run.
        question: the run, the variant and the baseline to compare, the metrics and the gates (conditions on
            differences).

    Raises:
        ExperimentEvidenceError: there is no such run or variant, the variant is the baseline, or the question names no
            variant and there are several. Or the run is damaged or not finished.
        GateInvalidError: a gate (condition) cannot be parsed.
    """
    try:
        variants = service.variants(question.root, question.run)
        baseline = variants[0] if question.baseline is None else question.baseline
        variant = _chosen(question, variants, baseline)
        found = service.compare(
            question.root, question.run, baseline=baseline, metrics=question.metrics, gates=question.gates
        )
        run_dir = str(find_run(question.root, question.run))
    except (NotFoundError, ConflictError) as error:
        raise ExperimentEvidenceError(error.message, remedy=error.remedy) from error
    if not found.results:
        quoted = shlex.quote(run_dir)
        raise ExperimentEvidenceError(
            f"The run {found.run_id} cannot gate a rollout: {found.reason}.",
            remedy=f"`lab compare {quoted}` judges it in the same way; `lab run --continue {quoted}` finishes it.",
        )
    # The confidence level covers the intervals of all variants of the run together.
    evidence = evidence_of(found, variant, run_dir)
    return evidence, judgement_of(evidence)


def evidence_of(found: VariantComparison, variant: str, run_dir: str) -> ExperimentEvidence:
    """Return the figures of one variant from `found`, a comparison of a run; `run_dir` is the folder of the run."""
    return ExperimentEvidence(
        run_id=found.run_id,
        run_dir=run_dir,
        baseline=found.baseline,
        variant=variant,
        level=None if found.joint is None else found.joint.level,
        gates=tuple(_gate(result.to_json()) for result in found.results if result.variant == variant),
    )


def judgement_of(evidence: ExperimentEvidence) -> RolloutJudgement:
    """Return the judgement of a variant: the worst verdict of its gates (conditions) in `evidence`, and the reason."""
    verdict = worst([gate.verdict for gate in evidence.gates])
    decisive = next(gate for gate in evidence.gates if gate.verdict is verdict)
    invalid = tuple(f"{gate.gate}: {gate.reason}" for gate in evidence.gates if gate.verdict is Verdict.INVALID)
    return RolloutJudgement(
        verdict=verdict,
        reason=f"{evidence.variant} against {evidence.baseline}: {decisive.reason}",
        policy=DecisionPolicy.STATISTICAL,
        problems=invalid,
    )


def check_plan(plan: Plan) -> None:
    """Check that a plan sets no field without an effect on a rollout that an experiment decides.

    Such a rollout measures only its canary. Without a canary, the fields of load and metric have no effect.

    Raises:
        PlanInvalidError: a field has no effect; the message names each such field.
    """
    used = _USED if plan.canary is None else _USED | _USED_BY_CANARY
    problems = [(name, "has no effect on a rollout that an experiment gates") for name in _unused(plan, used)]
    if plan.canary is not None and not plan.subject.live and "max_delta_p95" in plan.canary.guard.model_fields_set:
        problems.append(("canary.guard.max_delta_p95", "needs subject.live, because no window of arm A is measured"))
    if problems:
        raise PlanInvalidError("The plan has fields without an effect.", problems=tuple(problems))


def earlier_decision(
    stored: Sequence[RolloutRecord], record: RolloutRecord, target: RolloutTarget
) -> RolloutRecord | None:
    """Return the newest earlier rollout that has already decided this change of flags; None without a decision.

    The earlier rollout has an equal plan, apart from report files, and was decided by the same comparison of two
    variants of an experiment. A PASS that was not applied does not count as a decision.

    Args:
        stored: the rollouts of the target, newest first.
        record: the rollout that is to begin.
        target: the target; the caller must hold its lease.

    Raises:
        RolloutStateError: a person has rolled back the earlier rollout, or the flags were changed after the earlier
            rollout was applied.
        TargetUnavailableError: the target does not answer.
    """
    earlier = next((found for found in stored if _is_same(found, record)), None)
    if earlier is None or earlier.status is not RolloutStatus.DONE or earlier.judgement is None:
        return None
    last = earlier.audit[-1] if earlier.audit else None
    if last is not None and last.action == "rolled_back":
        raise RolloutStateError(
            f"{last.actor} has rolled back this change ({earlier.rollout_id}).",
            remedy=f"`lab rollout apply {earlier.rollout_id}` applies it again.",
        )
    if earlier.judgement.verdict is not Verdict.PASS:
        return earlier
    is_in_force = Arm.B in earlier.changes and target.flags.holds(target.flags.read(), earlier.changes[Arm.B])
    if is_in_force:
        return earlier
    if earlier.application is not None and earlier.application.applied:
        raise RolloutStateError(
            f"The flags that {earlier.rollout_id} applied were changed since.",
            remedy=f"`lab rollout apply {earlier.rollout_id}` applies them again.",
        )
    return None


def _is_same(earlier: RolloutRecord, record: RolloutRecord) -> bool:
    """Return whether two rollouts have the same plan, apart from report files, and the same comparison of variants.

    The result is False if `earlier` is a dry run, which applies nothing, or if no experiment decides one of them.
    """
    if earlier.experiment is None or record.experiment is None or earlier.is_dry_run:
        return False
    plan = earlier.plan.model_copy(update={"report": record.plan.report})
    return _identity(earlier.experiment) == _identity(record.experiment) and plan == record.plan


def _identity(evidence: ExperimentEvidence) -> tuple[Any, ...]:
    gates = tuple((gate.gate, gate.verdict) for gate in evidence.gates)
    return evidence.run_id, evidence.baseline, evidence.variant, gates


def _chosen(question: ExperimentQuestion, variants: Sequence[str], baseline: str) -> str:
    others = [name for name in variants if name != baseline]
    if question.variant is None:
        if len(others) == 1:
            return others[0]
        raise ExperimentEvidenceError(
            f"The run {str(question.run)!r} has {len(others)} variants besides the baseline {baseline!r}.",
            remedy=f"Name one with --variant: {', '.join(others)}." if others else None,
        )
    if question.variant == baseline:
        raise ExperimentEvidenceError(f"The variant {baseline!r} is the baseline, so it has no difference to judge.")
    if question.variant not in variants:
        raise ExperimentEvidenceError(
            f"The run {str(question.run)!r} has no variant {question.variant!r}.",
            remedy=f"Its variants: {', '.join(others)}.",
        )
    return question.variant


def _gate(result: dict[str, Any]) -> GateFigures:
    interval = result["interval"] or {}
    return GateFigures(
        metric=result["metric"],
        gate=result["gate"],
        verdict=result["verdict"],
        reason=result["reason"],
        estimate=result["estimate"],
        low=interval.get("low"),
        high=interval.get("high"),
        interval_method=interval.get("method"),
        pairs=result["windows"],
        minimum_detectable_effect=result["minimum_detectable_effect"],
        false_pass_rate=result["false_pass_rate"],
    )


def _unused(plan: Plan, used: frozenset[str]) -> Iterator[str]:
    """Yield the dotted names of the fields that the plan sets although they have no effect.

    `used` has the dotted names of the fields that have an effect.
    """
    for name in sorted(plan.model_fields_set - used):
        section = getattr(plan, name)
        inner = {field for field in used if field.startswith(f"{name}.")}
        if not inner or not isinstance(section, BaseModel):
            yield name
            continue
        yield from (given for field in sorted(section.model_fields_set) if (given := f"{name}.{field}") not in used)
