"""How often reports agree with labels."""

from __future__ import annotations

from relab.rca.labels.measuring import TOP_THREE, measure
from relab.rca.labels.models import LabelledRun, RunLabel
from relab.rca.models import (
    ActionItem,
    Attribution,
    CandidateStep,
    Category,
    Confidence,
    Evidence,
    EvidenceKind,
    Report,
)
from support.telemetry.runs import step
from unit.rca.builders import agent_run

EVIDENCE = {
    "e": Evidence(evidence_id="e", kind=EvidenceKind.STEP, ref_id="s0", title="Step", field="name", snippet="step")
}


def report_of(place: str, *candidates: str) -> Report:
    """Return a report that names the step `place` by evidence, and further candidates."""
    return Report.build(
        EVIDENCE,
        category=Category.UNKNOWN,
        insufficient_evidence=False,
        summary="It failed.",
        findings=(),
        hypotheses=(),
        attribution=Attribution.citing(EVIDENCE, step_id=place, confidence=Confidence.LOW, evidence_ids=("e",)),
        candidates=tuple(
            CandidateStep.citing(EVIDENCE, step_id=each, step_name=each, reasons=("why",), evidence_ids=("e",))
            for each in candidates
        ),
        action_items=(ActionItem(type="process", title="Read it", description="Read it.", priority="low"),),
        analyzer_version="1",
    )


def test_fourth_named_step_is_not_among_the_first_three() -> None:
    run = agent_run(steps=[step(f"s{number}", number) for number in range(4)])
    report = report_of("s0", "s1", "s2", "s3")
    pairs = [
        (
            LabelledRun(RunLabel(run_id="r", content_hash="h", labelled_by="ada", labelled_at=0, step_id=each), run),
            report,
        )
        for each in ("s0", "s2", "s3")
    ]

    (score,) = [score for score in measure(pairs).scores if score.question == TOP_THREE]

    assert score.hits == 2
    assert score.n == 3
