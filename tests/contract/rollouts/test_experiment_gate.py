"""Rollouts that a run of an experiment gates: only a PASS is applied, with the guarantees of any other rollout."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from relab.bootstrap import Services
from relab.flags.models import ServiceFlags
from relab.rollouts.errors import (
    ExperimentEvidenceError,
    FlagsNotAppliedError,
    PlanInvalidError,
    RolloutStateError,
    SubjectError,
    TargetUnhealthyError,
)
from relab.rollouts.experiment_gate import GatedRollout
from relab.rollouts.models import ExperimentQuestion
from relab.rollouts.plans.models import Plan
from relab.rollouts.plans.reading import flag_plan, parse_plan
from relab.rollouts.record import RolloutPhase, RolloutRecord, RolloutStatus
from relab.rollouts.reports.wording import next_steps
from relab.stats.verdicts import Verdict
from rig.trial_rows import trial_row, write_run
from support.flags.contents import content
from support.rollouts.plans import CONC_CAP
from support.rollouts.small_service import SmallService, small_service

FLAG = "agent.prompt"
TASKS = 20


def scored(lead: float, **variants: float) -> list[dict[str, Any]]:
    """Return the rows of a run; `better` leads the baseline by `lead` points, other variants by their values."""
    rows = []
    for task in range(TASKS):
        level = 10.0 + task % 5
        rows.append(trial_row("base", task, metrics={"score": level}))
        for name, ahead in {"better": lead, **variants}.items():
            rows.append(trial_row(name, task, metrics={"score": level + ahead + (task * 5 % 3) / 10}))
    return rows


class Lab:
    """Services of one installation, a small service, and a flag of the product."""

    def __init__(self, services: Services, service: SmallService, folder: Path) -> None:
        self.services = services
        self.service = service
        self.folder = folder
        self.services.flags.create(FLAG, content(), author="test")

    def run_dir(self, lead: float = 2.0, *, others: tuple[str, ...] = (), **fields: Any) -> Path:
        """Write a run whose variant `better` has a score that is `lead` points above the baseline's."""
        rows = fields.pop("rows", None) or scored(lead, **dict.fromkeys(others, 0.0))
        return write_run(self.folder / "run", rows, variants=("better", *others), primary=["score"], **fields)

    def gate(self, run_dir: Path, plan: Plan | None = None, **changes: Any) -> GatedRollout:
        is_dry_run = changes.pop("is_dry_run", False)
        return self.services.rollouts.run_from_experiment(
            plan or flag_plan(FLAG, a="off", b="on"),
            ExperimentQuestion(self.folder, run_dir, **changes),
            by="tester",
            stop=threading.Event(),
            on_progress=lambda _progress: None,
            root=self.folder,
            is_dry_run=is_dry_run,
        )

    def service_plan(self, **fields: Any) -> Plan:
        """Return a plan that changes the flow control of the small service."""
        document = {
            "base_url": self.service.url,
            "timeout": 2,
            "experiment": {"flow_policy": "fixed", "conc_cap": CONC_CAP, "routing_mode": "keep"},
            **fields,
        }
        return parse_plan(yaml.safe_dump(document), "plan.yaml")

    def serves(self) -> str:
        """Return the variant of the flag that a subject gets."""
        return self.services.flags.evaluate(FLAG, {"targetingKey": "user-1"}).variant or ""

    def version(self) -> int:
        return self.services.flags.get(FLAG).version

    def history(self) -> list[dict[str, Any]]:
        path = self.folder / "agents" / "labops" / "state" / "history.jsonl"
        return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


@pytest.fixture
def lab(make_services: Callable[..., Services], tmp_path: Path) -> Iterator[Lab]:
    with small_service() as service:
        yield Lab(make_services(), service, tmp_path)


def verdict_of(record: RolloutRecord) -> Verdict:
    assert record.judgement is not None
    return record.judgement.verdict


def test_variant_that_passes_gets_its_flag(lab: Lab) -> None:
    found = lab.gate(lab.run_dir())

    record = found.record
    assert not found.is_repeat
    assert verdict_of(record) is Verdict.PASS
    assert record.status is RolloutStatus.DONE
    assert record.application is not None
    assert record.application.applied
    assert "read back" in record.application.message
    assert record.windows == ()
    assert lab.serves() == "on"


def test_record_has_the_figures_of_the_comparison(lab: Lab) -> None:
    run_dir = lab.run_dir()
    (result,) = lab.services.experiments().compare(lab.folder, run_dir).results

    evidence = lab.gate(run_dir).record.experiment

    assert evidence is not None
    assert (evidence.run_id, evidence.baseline, evidence.variant) == ("run_1", "base", "better")
    (gate,) = evidence.gates
    assert gate.gate == "score is better"
    assert gate.estimate == result.judgement.estimate
    assert result.judgement.interval is not None
    assert (gate.low, gate.high) == (result.judgement.interval.low, result.judgement.interval.high)
    assert gate.pairs == TASKS
    assert gate.false_pass_rate is not None


def test_gated_rollout_is_reported_as_any_other(lab: Lab) -> None:
    record = lab.gate(lab.run_dir()).record

    summary = (lab.folder / "reports" / "LABOPS_AGENT_SUMMARY.txt").read_text()
    assert "- Experiment run: run_1" in summary
    assert "- score is better: PASS, difference +2.1" in summary
    assert "Flags Applied: YES" in summary
    assert f"lab flags set {FLAG}" in summary.partition("ROLLBACK\n")[2]
    page = (lab.folder / "reports" / "LAB_COMBO_REPORT.html").read_text()
    assert "Judged by the run run_1 of an experiment" in page
    (line,) = lab.history()
    assert line["verdict"] == "PASS"
    assert line["result"]["experiment"]["variant"] == "better"
    agent_run, _ = lab.services.telemetry.load(f"rollout.{record.rollout_id}")
    assert agent_run.status == "success"
    assert [step.name for step in agent_run.steps] == ["health", "plan", "judge", "apply"]


@pytest.mark.parametrize(("lead", "verdict"), [(-2.0, Verdict.FAIL), (-0.1, Verdict.EDGE)])
def test_variant_that_does_not_pass_changes_nothing(lab: Lab, lead: float, verdict: Verdict) -> None:
    record = lab.gate(lab.run_dir(lead)).record

    assert verdict_of(record) is verdict
    assert record.status is RolloutStatus.DONE
    assert record.application is not None
    assert not record.application.applied
    assert lab.version() == 1
    assert [phase.phase for phase in record.phases][-1] is RolloutPhase.JUDGE
    assert lab.history()[0]["verdict"] == verdict.value


def test_metric_that_the_run_does_not_have_is_invalid(lab: Lab) -> None:
    record = lab.gate(lab.run_dir(), gates=("speed>=1",)).record

    assert verdict_of(record) is Verdict.INVALID
    assert record.judgement is not None
    assert "'speed'" in record.judgement.reason
    assert lab.version() == 1


def test_edge_is_applied_by_a_person_and_rolled_back(lab: Lab) -> None:
    record = lab.gate(lab.run_dir(-0.1)).record

    lab.services.rollouts.apply(record.rollout_id, by="ada", note="Harmless.")
    assert lab.serves() == "on"

    lab.services.rollouts.roll_back(record.rollout_id, by="ada")
    assert lab.serves() == "off"


def test_dry_run_judges_and_changes_nothing(lab: Lab) -> None:
    record = lab.gate(lab.run_dir(), is_dry_run=True).record

    assert verdict_of(record) is Verdict.PASS
    assert record.application is None
    assert lab.version() == 1
    assert lab.history() == []
    # A later call does not repeat the decision of a dry run.
    assert not lab.gate(lab.folder / "run").is_repeat
    assert lab.serves() == "on"


def test_second_call_changes_nothing(lab: Lab) -> None:
    first = lab.gate(lab.run_dir())
    version = lab.version()

    second = lab.gate(lab.folder / "run")

    assert second.is_repeat
    assert second.record == first.record
    assert lab.version() == version
    assert len(lab.history()) == 1


def test_change_that_a_person_rolled_back_is_not_applied_again(lab: Lab) -> None:
    first = lab.gate(lab.run_dir()).record
    lab.services.rollouts.roll_back(first.rollout_id, by="ada")

    with pytest.raises(RolloutStateError, match="ada has rolled back this change"):
        lab.gate(lab.folder / "run")

    assert lab.serves() == "off"


def test_flag_that_a_person_changed_back_is_not_applied_again(lab: Lab) -> None:
    record = lab.gate(lab.run_dir()).record
    lab.services.flags.update(FLAG, content(), expected=None, author="another client")

    with pytest.raises(RolloutStateError) as raised:
        lab.gate(lab.folder / "run")

    assert lab.serves() == "off"
    assert record.rollout_id in str(raised.value.remedy)


def test_flags_of_a_service_are_applied_and_the_rollback_restores_them(lab: Lab) -> None:
    record = lab.gate(lab.run_dir(), lab.service_plan()).record

    assert lab.service.flags.control.max_concurrency == CONC_CAP
    assert lab.service.report["experiment_type"] == "experiment"
    lab.services.rollouts.roll_back(record.rollout_id, by="ada")
    assert lab.service.flags == ServiceFlags()


def test_pass_on_an_unhealthy_target_has_no_change_to_apply(lab: Lab) -> None:
    lab.service.unhealthy = {"redis"}
    with pytest.raises(TargetUnhealthyError):
        lab.gate(lab.run_dir(), lab.service_plan())
    (record,) = lab.services.rollouts.list_rollouts().items
    assert verdict_of(record) is Verdict.PASS
    lab.service.unhealthy = set()

    with pytest.raises(RolloutStateError, match="no change to apply"):
        lab.services.rollouts.apply(record.rollout_id, by="ada")

    assert next_steps(record) == ["Remove the cause, then run the rollout again"]


def test_flags_that_do_not_stick_are_an_error(lab: Lab) -> None:
    lab.service.forgets = True

    with pytest.raises(FlagsNotAppliedError):
        lab.gate(lab.run_dir(), lab.service_plan(timeout=2))

    (record,) = lab.services.rollouts.list_rollouts().items
    assert record.status is RolloutStatus.FAILED
    assert record.application is None


def test_canary_applies_a_pass_in_steps_and_its_guard_rolls_back(lab: Lab) -> None:
    lab.service.fails = lambda _flags: lab.serves() == "on"
    mix = lab.folder / "mix.yaml"
    mix.write_text("requests:\n  - {name: work, path: /work}\n")
    plan = lab.service_plan(
        experiment={"qps": 40, "mix": str(mix)},
        subject={"flags": {"kind": "product_flag", "key": FLAG, "a": "off", "b": "on"}},
        canary={"steps": [100], "step_sec": 0.2},
    )

    record = lab.gate(lab.run_dir(), plan).record

    assert verdict_of(record) is Verdict.PASS
    assert record.application is not None
    assert not record.application.applied
    assert "The canary was rolled back at 100 %: The error rate was 100.00 %" in record.application.message
    assert record.flags_restored
    assert lab.serves() == "off"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"variant": "best"}, "has no variant 'best'"),
        ({"variant": "base"}, "'base' is the baseline"),
        ({}, "has 2 variants besides the baseline"),
        ({"variant": "better", "baseline": "none"}, "no variant 'none'"),
    ],
)
def test_run_without_the_variant_is_an_error(lab: Lab, changes: dict[str, str], message: str) -> None:
    with pytest.raises(ExperimentEvidenceError, match=message):
        lab.gate(lab.run_dir(others=("third",)), **changes)

    assert lab.services.rollouts.list_rollouts().items == []


def test_one_of_several_variants_is_judged_with_joint_intervals(lab: Lab) -> None:
    evidence = lab.gate(lab.run_dir(others=("third",)), variant="third").record.experiment

    assert evidence is not None
    assert [gate.metric for gate in evidence.gates] == ["score"]
    assert evidence.variant == "third"


def test_run_that_is_not_finished_is_an_error_with_its_remedy(lab: Lab) -> None:
    with pytest.raises(ExperimentEvidenceError, match="is not finished") as raised:
        lab.gate(lab.run_dir(status="running"))

    assert "lab run --continue" in str(raised.value)


def test_unknown_run_is_an_error(lab: Lab) -> None:
    with pytest.raises(ExperimentEvidenceError, match="There is no run 'absent'"):
        lab.gate(Path("absent"))


def test_flag_without_the_variant_is_an_error(lab: Lab) -> None:
    with pytest.raises(SubjectError, match="no variant 'blue'"):
        lab.gate(lab.run_dir(), flag_plan(FLAG, a="off", b="blue"))

    assert lab.version() == 1


@pytest.mark.parametrize(
    ("fields", "name"),
    [
        ({"experiment": {"flow_policy": "fixed", "window_sec": 3}}, "experiment.window_sec"),
        ({"thresholds": {"max_error_rate": 2}}, "thresholds"),
        ({"policy": "seed"}, "policy"),
        ({"subject": {"allow_remote": True}}, "subject.allow_remote"),
        (
            {
                "experiment": {},
                "subject": {"flags": {"kind": "product_flag", "key": FLAG, "a": "off", "b": "on"}},
                "canary": {"guard": {"max_delta_p95": 10}},
            },
            "canary.guard.max_delta_p95",
        ),
    ],
)
def test_field_without_effect_is_rejected_by_name(lab: Lab, fields: dict[str, Any], name: str) -> None:
    with pytest.raises(PlanInvalidError) as raised:
        lab.gate(lab.run_dir(), lab.service_plan(**fields))

    assert [field for field, _ in raised.value.problems] == [name]
