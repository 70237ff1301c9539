"""Add the behaviours of a run to its report, as claims with evidence. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType

from relab.rca.behaviours.matching import SeenBehaviour
from relab.rca.evidence import EvidenceCollector
from relab.rca.judge_models import SentenceJudgement
from relab.rca.models import BehaviourFinding, HitRate, Report
from relab.telemetry.models import AgentRun, ToolCall


def with_behaviours(
    report: Report,
    run: AgentRun,
    seen: Sequence[SeenBehaviour],
    judgement: SentenceJudgement | None = None,
    hit_rates: Mapping[str, HitRate | None] = MappingProxyType({}),
) -> Report:
    """Return a copy of the report with a finding for each behaviour that the run shows.

    The quotations that show the behaviours are appended to the report's evidence.

    Args:
        report: the report to extend.
        run: the run of the report.
        seen: the behaviours that the run shows.
        judgement: the names of the behaviours that a language model judged, and the cost of the model; None if no rule
            has a sentence.
        hit_rates: `{behaviour: hit rate}`. Of the runs in which the search found the behaviour, and which a person
            labelled, the hit rate is the share whose label confirms the behaviour; None without such runs.
    """
    if not seen and judgement is None:
        return report
    collector = EvidenceCollector(run, report.evidence_index)
    cited = [collector.quote_all(each.quotes) for each in seen]
    evidence = collector.evidence
    agents = {step.step_id: step.agent_name for step in run.steps}
    findings = []
    for each, ids in zip(seen, cited, strict=True):
        source = each.quotes[0].source
        findings.append(
            BehaviourFinding.citing(
                evidence,
                behaviour=each.rule.name,
                description=each.rule.description,
                step_id=each.step_id,
                call_id=source.call_id if isinstance(source, ToolCall) else None,
                agent_name=agents.get(each.step_id or ""),
                evidence_ids=ids,
                hit_rate=hit_rates.get(each.rule.name),
                by_model=each.opinion is not None,
                model=each.opinion.model if each.opinion is not None else None,
                reason=each.opinion.reason if each.opinion is not None else None,
            )
        )
    return report.with_changes(evidence, behaviours=tuple(findings), sentences=judgement)
