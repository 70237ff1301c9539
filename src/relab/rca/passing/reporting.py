"""Add the differences from passing runs (runs that succeeded) to a report, as claims with evidence. Pure."""

from __future__ import annotations

from relab.rca.evidence import EvidenceCollector, RunView
from relab.rca.models import Report
from relab.rca.passing.comparison import compare
from relab.rca.passing_models import PassingComparison, PassingDifference
from relab.telemetry.past_models import PassingRuns


def with_comparison(report: Report, view: RunView, passing: PassingRuns) -> Report:
    """Return a copy of the report of a failed run, with its differences from passing runs (runs that succeeded).

    The report is returned unchanged if the run did not fail, or if there is no run to compare it with.
    """
    if not view.failed or not passing.runs:
        return report
    collector = EvidenceCollector(view.run, report.evidence_index)
    found = compare(view, passing)
    cited = [collector.quote_all(each.quotes) for each in found]
    evidence = collector.evidence
    differences = tuple(
        PassingDifference.citing(
            evidence,
            kind=each.kind,
            sentence=each.sentence,
            tool_name=each.tool_name,
            step_id=None if each.place is None else each.place.call.step_id,
            call_id=None if each.place is None else each.place.call.call_id,
            runs=each.runs,
            evidence_ids=ids,
        )
        for each, ids in zip(found, cited, strict=True)
    )
    comparison = PassingComparison.model_validate(
        {
            "same_task": passing.same_task,
            "run_ids": tuple(run.run_id for run in passing.runs),
            "differences": differences,
        },
        context={"evidence": evidence},
    )
    return report.with_changes(evidence, passing=comparison)
