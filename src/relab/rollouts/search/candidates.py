"""The results of a search, made from its rollouts: screened candidates, their rank, confirmations. Pure."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Final

from pydantic import BaseModel, ConfigDict

from relab.rollouts.models import Arm
from relab.rollouts.plans.models import Plan
from relab.rollouts.record import RolloutRecord
from relab.rollouts.search.proposals import MeasuredCandidate
from relab.rollouts.search.spec import SearchSpec, Values, plan_with
from relab.stats.verdicts import Verdict

_CONFIRMING_SEED: Final = 1_000_000
"""Added to the plan's seed, so that a confirming rollout has another order of windows than the screening."""
_LEAST_CHANGE_PCT: Final = -99.999999


class _Value(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class ScreenedCandidate(_Value):
    """A candidate of a search (values for fields of the plan), with the result of its screening (a short rollout).

    Attributes:
        number: the number of the candidate in the search, from 1.
        values: `{field of the plan: value}`.
        rollout_id: the id of the screening; None if the candidate was not measured, see `problem`.
        estimate_pct: change of the judged figure (the P95 latency, or the metric that the plan names) from arm A (old
            flags) to arm B (the candidate's flags), in percent.
        low_pct, high_pct: ends of the interval of `estimate_pct`.
        error_rate_pct: failed requests of arm B, in percent.
        error: standard error of the log ratio of arm B to arm A; 0 if it was not measured.
        problem: why the candidate cannot be chosen; None if it can.
        seconds: duration of the screening.
    """

    number: int
    values: Values
    rollout_id: str | None
    estimate_pct: float | None = None
    low_pct: float | None = None
    high_pct: float | None = None
    error_rate_pct: float | None = None
    error: float = 0.0
    problem: str | None = None
    seconds: float = 0.0

    @property
    def label(self) -> str:
        """The values as one line, such as `conc_cap=8, routing_mode=faiss`."""
        return ", ".join(f"{name.rpartition('.')[2]}={value}" for name, value in self.values.items())

    def trial(self) -> MeasuredCandidate:
        """Return the candidate's values with their measured effect, from which `propose` chooses the next candidate."""
        if self.problem or self.estimate_pct is None:
            return MeasuredCandidate(self.values, None, self.error)
        # Percentages are rounded, so a very small figure of arm B is a change by -100 %, which has no logarithm.
        return MeasuredCandidate(self.values, math.log1p(max(self.estimate_pct, _LEAST_CHANGE_PCT) / 100), self.error)


class Confirmation(_Value):
    """A full-length rollout of one of the best candidates of a search.

    If the rollout passes, it applies the candidate's flags.

    Attributes:
        candidate: the number of the candidate, from 1.
        rollout_id: the id of the rollout.
        verdict: the verdict of the rollout; None without a verdict.
        reason: the reason for the verdict, in one sentence.
        applied: whether the candidate's flags are in force.
    """

    candidate: int
    rollout_id: str
    verdict: Verdict | None
    reason: str
    applied: bool


class SearchResult(_Value):
    """The state of a search for the best flags; the search may still be running.

    A candidate is a set of values for fields of the plan.

    Attributes:
        search_id: the id of the search.
        spec: the content of the search file.
        candidates: the candidates so far, in order. After a dry run (`RolloutSearch.check`), they are not measured.
        confirmations: the full rollouts of the best candidates so far, in order.
        chosen: number of the candidate that a confirming rollout applied; None if none was applied.
        finished: whether the search has ended.
        message: the result in one sentence.
    """

    search_id: str
    spec: SearchSpec
    candidates: tuple[ScreenedCandidate, ...] = ()
    confirmations: tuple[Confirmation, ...] = ()
    chosen: int | None = None
    finished: bool = False
    message: str = ""


def screening_plan(spec: SearchSpec, values: Values, number: int, folder: str) -> Plan:
    """Return the plan of the screening (short rollout) of candidate `number`. It has too few rounds for a PASS.

    `values` are the candidate's values for fields of the search's plan. The reports are in a subfolder of `folder`.
    """
    measured = {"experiment.rounds": spec.screening.rounds, "experiment.seed": spec.plan.experiment.seed + number}
    report = {"report.output_path": f"{folder}/candidate-{number}/SUMMARY.txt"}
    plan = plan_with(spec.plan, {**values, **measured, **report}, is_checked=True)
    return plan.model_copy(update={"canary": None, "time_budget": 0.0, "early_stop": None})


def confirming_plan(spec: SearchSpec, candidate: ScreenedCandidate, place: int, folder: str) -> Plan:
    """Return the plan of a full rollout of a candidate (values for fields of the search's plan).

    If the rollout passes, it applies the candidate's flags. `place` is the number of the confirming rollout in the
    search, from 1. The reports are in a subfolder of `folder`.
    """
    changes = {
        "alpha_share": 1 / spec.confirmations,
        "experiment.seed": spec.plan.experiment.seed + _CONFIRMING_SEED + place,
        "report.output_path": f"{folder}/confirmation-{place}/SUMMARY.txt",
    }
    return plan_with(spec.plan, {**candidate.values, **changes}, is_checked=True)


def screened(number: int, values: Values, record: RolloutRecord) -> ScreenedCandidate:
    """Return the candidate with this number and these values, with the results of its screening `record`.

    A screening is the short rollout that measures a candidate.
    """
    found = record.judgement
    assert found is not None
    effect, limits = found.delta_p95, record.plan.thresholds
    problem = None
    if found.verdict is Verdict.INVALID or effect is None:
        problem = found.reason
    elif found.error_rate_pct is not None and found.error_rate_pct >= limits.max_error_rate:
        problem = f"The error rate is {found.error_rate_pct:.2f} % (the limit is {limits.max_error_rate:g} %)."
    rounds = max(found.windows.get(Arm.B, 1), 1)
    ended, started = record.finished_at or record.created_at, record.started_at or record.created_at
    return ScreenedCandidate(
        number=number,
        values=values,
        rollout_id=record.rollout_id,
        estimate_pct=None if effect is None else effect.estimate_pct,
        low_pct=None if effect is None else effect.low_pct,
        high_pct=None if effect is None else effect.high_pct,
        error_rate_pct=found.error_rate_pct,
        error=(found.window_sd_pct or 0.0) / 100 / math.sqrt(rounds),
        problem=problem,
        seconds=max(ended - started, 0) / 1e6,
    )


def to_confirm(estimates_pct: Sequence[float | None], *, greatest_pct: float, most: int) -> list[int]:
    """Return the positions of the candidates to confirm, the best first.

    Args:
        estimates_pct: the measured change of each candidate, in percent; smaller is better. None for a candidate that
            cannot be chosen.
        greatest_pct: the limit, in percent; candidates with a greater change are not confirmed.
        most: the greatest number of candidates to confirm.
    """
    ranked = sorted((estimate, place) for place, estimate in enumerate(estimates_pct) if estimate is not None)
    return [place for estimate, place in ranked[:most] if estimate <= greatest_pct]
