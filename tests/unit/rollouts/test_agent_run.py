"""The analysis of a rollout that telemetry has as an agent run."""

from __future__ import annotations

from relab.rca.analyzer import analyze
from relab.rollouts.agent_run import agent_run_of
from relab.rollouts.record import PhaseStart, RolloutPhase
from unit.rollouts.rollout_records import record_of
from unit.rollouts.rollout_windows import START_US


def test_analysis_of_a_fail_names_the_verdict_with_its_reason_and_no_repetition() -> None:
    phases = (RolloutPhase.EXECUTE, RolloutPhase.JUDGE, RolloutPhase.RESTORE)
    record = record_of(+30, phases=tuple(PhaseStart(phase=phase, at=START_US) for phase in phases))
    assert record.judgement is not None

    report = analyze(agent_run_of(record))

    assert report.detail == "verdict"
    assert report.summary == (
        'The run failed because step "judge" met a verdict other than PASS: it decided `rollout_verdict_fail`: '
        f'`{record.judgement.reason}` (step "judge" [01_judge]).'
    )
    advice = " ".join((*(item.description for item in report.action_items), *report.hypotheses[0].verification_steps))
    assert "After a FAIL, change what was measured" in advice
    assert "epeat " not in advice
