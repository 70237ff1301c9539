"""Measure the comparison with passing runs on tau-bench, where trials of one task both pass and fail.

A failing trial is compared with the passing ones of its task. As a control, each passing trial is compared with the
other passing ones of its task, as if it had failed: the differences that it shows did not make it fail.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from typing import TypeAlias

from evals.quotation import Check, check_report
from evals.rca.cases import FAILING_SET, PASSING_SET, Case
from evals.rca.figures import Figure, share
from evals.rca.predictions import Prediction, prediction_of
from relab.rca.analyzer import analyze
from relab.rca.evidence import RunView
from relab.rca.models import Report
from relab.rca.passing import with_comparison
from relab.rca.passing_models import PassingDifferenceKind
from relab.telemetry.models import AgentRun
from relab.telemetry.past_models import PassedCall, PassingRun, PassingRuns

MIN_RUNS = 2
_DIVERGENCE = PassingDifferenceKind.FIRST_DIVERGENCE
Compared: TypeAlias = list[tuple[Case, Report, Report, Check]]


def passing_run(run: AgentRun) -> PassingRun:
    """Return a run as the comparison reads it."""
    calls = tuple(
        PassedCall(run_id=run.run_id, call_id=call.call_id, tool_name=call.tool_name, args_json=call.args_json)
        for call in run.tool_calls
        if call.status != "failure"
    )
    return PassingRun(run_id=run.run_id, started_at=run.started_at, answer=run.answer, calls=calls)


def compare_trials(cases: Mapping[str, Sequence[Case]]) -> dict[str, Compared]:
    """Return per set, for tasks with at least two other passing trials: (case, report, compared report, check)."""
    passed: defaultdict[str, list[Case]] = defaultdict(list)
    for case in cases[PASSING_SET]:
        passed[case.group].append(case)
    found: dict[str, Compared] = {FAILING_SET: [], PASSING_SET: []}
    for name, compared in found.items():
        for case in cases[name]:
            others = [other for other in passed[case.group] if other is not case]
            if len(others) < MIN_RUNS:
                continue
            run = case.run
            before = analyze(run)
            passing = PassingRuns(same_task=True, runs=tuple(passing_run(other.run) for other in others))
            after = with_comparison(before, RunView(run), passing)
            bodies = {other.body["run_id"]: other.body for other in others}
            check = check_report(case.body, after.model_dump(mode="json"), bodies)
            compared.append((case, before, after, check))
    return found


def passing_rows(compared: Mapping[str, Compared]) -> dict[str, dict[str, Figure]]:
    """Return the figures of the comparison: how often it finds each kind of difference, and what stays the same."""
    return {f"{name}, beside passing trials of its task": _row(found) for name, found in compared.items()}


def _row(found: Compared) -> dict[str, Figure]:
    def of(is_so: Callable[[Report, Report, Check], bool]) -> Figure:
        hits = {id(case): is_so(before, after, check) for case, before, after, check in found}
        return share([(case, Prediction()) for case, *_ in found], lambda case, _: hits[id(case)])

    kinds = {
        kind.value: of(lambda _before, after, _check, kind=kind: kind in _kinds(after))  # type: ignore[misc]
        for kind in PassingDifferenceKind
    }
    return {
        "any but the first divergence": of(lambda _, after, __: bool(_kinds(after) - {_DIVERGENCE})),
        **kinds,
        "valid evidence": of(lambda _, __, check: not check.problems),
        "cause of high confidence": of(lambda _, after, __: prediction_of(after).high),
        "nothing else changed": of(lambda before, after, _: _is_same(before, after)),
    }


def _kinds(report: Report) -> set[PassingDifferenceKind]:
    return {each.kind for each in report.passing.differences} if report.passing is not None else set()


def _is_same(before: Report, after: Report) -> bool:
    new = {"passing", "evidence_index"}
    return before.model_dump(exclude=new) == after.model_dump(exclude=new)
