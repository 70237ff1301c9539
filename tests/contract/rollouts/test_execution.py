"""The execution of rollouts on a small real service: every end leaves the flags as they were, or applied."""

from __future__ import annotations

import threading
from collections.abc import Callable
from itertools import count
from typing import Any

import pytest

from relab.core.errors import InvalidInputError, RelabError
from relab.load.errors import MixError
from relab.rollouts.errors import (
    FlagsNotAppliedError,
    RolloutStateError,
    SubjectError,
    TargetBusyError,
    TargetUnavailableError,
    TargetUnhealthyError,
)
from relab.rollouts.execution.progress import RolloutProgress
from relab.rollouts.models import Arm
from relab.rollouts.record import RolloutPhase, RolloutStatus
from relab.stats.verdicts import Verdict
from support.rollouts.plans import CONC_CAP, faster_b, slower_b, small_plan
from support.rollouts.rollout_lab import RolloutLab


def test_better_arm_is_applied_and_read_back(lab: RolloutLab) -> None:
    lab.service.delay_s = faster_b

    record = lab.run(policy="seed")

    assert record.judgement is not None
    assert record.judgement.verdict is Verdict.PASS
    assert record.application is not None
    assert record.application.applied
    assert record.status is RolloutStatus.DONE
    assert lab.limit() == CONC_CAP
    assert [window.arm for window in record.windows] == [Arm.A, Arm.B, Arm.A, Arm.B]
    assert lab.services.rollouts.get(record.rollout_id) == record


def test_service_without_a_changed_flag_is_left_alone(lab: RolloutLab) -> None:
    lab.service.documents["/api/flags"] = {"control": {"policy": "aimd"}, "routing": {"enabled": False}}

    with pytest.raises(SubjectError, match=r"control\.max_concurrency"):
        lab.run()

    assert lab.service.changes == []
    assert lab.last().status is RolloutStatus.FAILED


def test_reader_sees_the_phase_that_is_under_way(lab: RolloutLab) -> None:
    lab.service.delay_s = faster_b
    seen: list[tuple[RolloutPhase, RolloutPhase, RolloutStatus]] = []

    def look(progress: RolloutProgress) -> None:
        stored = lab.last()
        # The short phases before the measurement are stored at their end.
        if progress.phase not in {RolloutPhase.HEALTH, RolloutPhase.PLAN}:
            seen.append((progress.phase, stored.phase, stored.status))

    lab.on_progress = look
    lab.run(policy="seed")

    assert all(shown is under_way for under_way, shown, _ in seen)
    assert {status for _, _, status in seen} == {RolloutStatus.RUNNING}
    assert {shown for _, shown, _ in seen} == {RolloutPhase.EXECUTE, RolloutPhase.JUDGE, RolloutPhase.APPLY}


def test_default_policy_applies_a_pass_after_enough_rounds(lab: RolloutLab) -> None:
    service, reads = lab.service, count()
    # The service reports the figure, because latencies of such short windows vary too much on a busy machine.
    service.figures = lambda _path: {"p95": (20.0 if lab.limit() == CONC_CAP else 100.0) + next(reads) % 3}
    metric = {"kind": "json", "url": f"{service.url}/figures?arm=$arm", "pointer": "/p95"}
    subject = {"flags": {"kind": "service"}, "metric": metric}

    record = lab.run(experiment__rounds=8, thresholds__max_error_rate=5, subject=subject)

    assert record.judgement is not None
    assert record.judgement.verdict is Verdict.PASS, record.judgement
    assert lab.limit() == CONC_CAP


def test_worse_arm_fails_and_flags_are_as_before(lab: RolloutLab) -> None:
    lab.service.delay_s = slower_b
    before = lab.service.flags

    record = lab.run()

    assert record.judgement is not None
    assert record.judgement.verdict is Verdict.FAIL
    assert record.application is not None
    assert not record.application.applied
    assert record.flags_restored
    assert lab.service.flags == before


def test_two_rounds_never_apply_under_the_default_policy(lab: RolloutLab) -> None:
    lab.service.delay_s = faster_b

    record = lab.run()

    assert record.judgement is not None
    assert record.judgement.verdict is not Verdict.PASS
    assert lab.limit() == 32


def test_every_window_is_measured_with_the_flags_of_its_arm(lab: RolloutLab) -> None:
    seen: list[int] = []
    lab.service.on_work = lambda: seen.append(lab.limit())

    record = lab.run(experiment__order="abba")

    assert [window.arm for window in record.windows] == [Arm.A, Arm.B, Arm.B, Arm.A]
    changes = [limit for limit, former in zip(seen, [0, *seen], strict=False) if limit != former]
    assert changes == [32, CONC_CAP, 32]
    assert all(window.offered == window.completed == 15 for window in record.windows)


def test_stopped_rollout_restores_the_flags(lab: RolloutLab) -> None:
    def stop_in_arm_b() -> None:
        if lab.limit() == CONC_CAP:
            lab.stop.set()

    lab.service.on_work = stop_in_arm_b

    record = lab.run()

    assert record.status is RolloutStatus.INTERRUPTED
    assert record.judgement is None
    assert record.flags_restored
    assert [window.arm for window in record.windows] == [Arm.A]
    assert lab.limit() == 32


def test_time_budget_ends_the_measurement_within_a_window(lab: RolloutLab) -> None:
    # One round fits, but only without the time that the changes of flags take, so that its last window is cut.
    record = lab.run(
        experiment__window_sec=1,
        experiment__warmup_sec=0,
        experiment__rounds=2,
        time_budget=2.01,
    )

    assert record.status is RolloutStatus.DONE
    assert record.planned_windows == 2
    assert [window.arm for window in record.windows] == [Arm.A]
    assert record.judgement is not None
    assert record.judgement.verdict is Verdict.INVALID
    assert lab.limit() == 32


def test_unhealthy_target_blocks_the_rollout(lab: RolloutLab) -> None:
    lab.service.unhealthy.add("redis")

    with pytest.raises(TargetUnhealthyError, match="redis"):
        lab.run()

    assert lab.service.changes == []
    assert lab.last().status is RolloutStatus.FAILED
    assert "redis" in (lab.last().error or "")


def test_target_that_becomes_unhealthy_invalidates_the_rollout(lab: RolloutLab) -> None:
    def fail_in_arm_b() -> None:
        if lab.limit() == CONC_CAP:
            lab.service.unhealthy.add("qdrant")

    lab.service.on_work = fail_in_arm_b

    record = lab.run()

    assert record.judgement is not None
    assert record.judgement.verdict is Verdict.INVALID
    assert "qdrant" in record.windows[-1].problems[0]
    assert lab.limit() == 32


def test_summary_after_an_unhealthy_window_counts_measured_windows_and_names_the_remedy(lab: RolloutLab) -> None:
    def fail_in_arm_b() -> None:
        if lab.limit() == CONC_CAP:
            lab.service.unhealthy.add("qdrant")

    lab.service.on_work = fail_in_arm_b

    record = lab.run()
    lines = lab.services.rollouts.summary(record.rollout_id).splitlines()

    measured = {
        arm: sum(found.arm is arm and found.duration_s > 0 for found in record.windows) for arm in (Arm.A, Arm.B)
    }
    assert any(found.duration_s == 0 for found in record.windows)
    assert f"- Windows: A {measured[Arm.A]}, B {measured[Arm.B]}" in lines
    step = lines[lines.index("NEXT STEP") + 1]
    assert step.startswith("- Window 3 (arm A): The target became unhealthy: Unhealthy: qdrant (see http")
    assert step.endswith(" Repair the target.")


def test_flags_that_do_not_stick_are_a_named_error(lab: RolloutLab) -> None:
    lab.service.forgets = True

    with pytest.raises(FlagsNotAppliedError):
        lab.run(timeout=1)

    assert lab.last().status is RolloutStatus.FAILED
    assert lab.limit() == 32


def test_change_by_another_client_invalidates_the_rollout_and_stays(lab: RolloutLab) -> None:
    def change_in_arm_b() -> None:
        if lab.limit() == CONC_CAP:
            lab.service.change({"control": {"max_concurrency": 7}}, None)

    lab.service.on_work = change_in_arm_b

    record = lab.run()

    assert record.judgement is not None
    assert record.judgement.verdict is Verdict.INVALID
    assert "Another client" in record.windows[-1].problems[0]
    assert record.flags_restored is False
    assert lab.limit() == 7


def test_target_that_is_down_before_the_start_is_a_named_error(lab: RolloutLab) -> None:
    with pytest.raises((TargetUnavailableError, TargetUnhealthyError), match="does not answer"):
        lab.run(base_url="http://127.0.0.1:9")


def test_rejected_flags_are_a_named_error_and_nothing_changes(lab: RolloutLab) -> None:
    lab.service.change_status = 422

    with pytest.raises(InvalidInputError, match="rejects"):
        lab.run()

    assert lab.limit() == 32


def test_second_rollout_on_one_target_is_rejected_by_name(lab: RolloutLab) -> None:
    rejected: list[str] = []
    lock = threading.Lock()

    def start_another() -> None:
        with lock:
            if rejected:
                return
            try:
                lab.run()
            except TargetBusyError as error:
                rejected.append(error.message)

    lab.service.on_work = start_another

    record = lab.run()

    assert len(rejected) == 1
    assert record.rollout_id in rejected[0]
    assert len(record.windows) == 4


def test_dry_run_changes_and_measures_nothing(lab: RolloutLab) -> None:
    record = lab.run(is_dry_run=True)

    assert record.status is RolloutStatus.DONE
    assert record.changes[Arm.B]["control"]["max_concurrency"] == CONC_CAP
    assert record.changes[Arm.A]["control"]["max_concurrency"] == 32
    assert record.planned_windows == 4
    assert lab.service.changes == []
    assert record.windows == ()


def test_dry_run_finds_an_invalid_mix(lab: RolloutLab) -> None:
    (lab.folder / "routes.yaml").write_text("routes: []\n")

    with pytest.raises(MixError):
        lab.run(is_dry_run=True, experiment__mix=str(lab.folder / "routes.yaml"))


def test_progress_counts_windows_and_narrows_the_interval(lab: RolloutLab) -> None:
    lab.run(time_budget=600)

    done = [each.windows_done for each in lab.progress if each.message == "Measuring"]
    assert done == [0, 1, 2, 3, 4]
    assert lab.progress[-1].effect is not None
    assert set(lab.progress[-1].medians) == {Arm.A, Arm.B}
    assert all(each.left_s is not None for each in lab.progress)


def test_person_applies_an_edge_and_rolls_it_back(lab: RolloutLab) -> None:
    lab.service.delay_s = faster_b
    record = lab.run()
    assert record.judgement is not None
    assert record.judgement.verdict is Verdict.EDGE, record.judgement
    before = lab.service.flags

    applied = lab.services.rollouts.apply(record.rollout_id, by="ada", note="Looks fine.")

    assert lab.limit() == CONC_CAP
    assert applied.application is not None
    assert applied.application.by == "ada"
    with pytest.raises(RolloutStateError, match="in force already"):
        lab.services.rollouts.apply(record.rollout_id, by="ada")

    lab.services.rollouts.roll_back(record.rollout_id, by="bob")

    assert lab.service.flags == before
    with pytest.raises(RolloutStateError, match="in force already"):
        lab.services.rollouts.roll_back(record.rollout_id, by="bob")
    audit = [(entry.actor, entry.action) for entry in lab.last().audit]
    assert audit == [("tester", "requested"), ("ada", "applied"), ("bob", "rolled_back")]


def test_failed_rollout_cannot_be_applied(lab: RolloutLab) -> None:
    lab.service.delay_s = slower_b
    record = lab.run()

    with pytest.raises(RolloutStateError, match="FAIL cannot be applied"):
        lab.services.rollouts.apply(record.rollout_id, by="ada")

    assert lab.limit() == 32


def test_target_that_is_down_at_the_end_is_restored_by_the_next_command(lab: RolloutLab) -> None:
    def stop_answering() -> None:
        if lab.limit() == CONC_CAP:
            lab.service.change_status = 503

    lab.service.on_work = stop_answering

    with pytest.raises(RelabError):
        lab.run(timeout=1)
    assert lab.limit() == CONC_CAP
    assert lab.last().flags_restored is False
    assert [found.restored for found in lab.services.rollouts.recover()] == [False]

    lab.service.change_status = None
    recovered = lab.services.rollouts.recover()

    assert [found.restored for found in recovered] == [True]
    assert lab.limit() == 32
    assert lab.last().flags_restored
    assert lab.services.rollouts.recover() == []


def automatic(lab: RolloutLab, noise: Callable[[int], float]) -> dict[str, Any]:
    """Return the fields of a plan with 2 to 8 automatic rounds; the figure of read `n` is 100 plus `noise(n)`.

    Read -1 is the one before the measurement.
    """
    reads = count(-1)
    lab.service.figures = lambda _path: {"p95": 100 + noise(next(reads))}
    metric = {"kind": "json", "url": f"{lab.service.url}/figures?arm=$arm", "pointer": "/p95"}
    rounds = {"experiment__rounds": "auto", "experiment__min_rounds": 2, "experiment__max_rounds": 8}
    return {**rounds, "subject": {"flags": {"kind": "service"}, "metric": metric}}


@pytest.mark.parametrize("stored", [4, pytest.param(7, marks=pytest.mark.full)])
def test_rounds_that_a_plan_chooses_are_measured_after_the_worker_died(lab: RolloutLab, stored: int) -> None:
    # Rounds whose figures differ by a hundredth need only the 7 rounds that every PASS needs.
    fields = automatic(lab, lambda read: read % 3)
    plan = small_plan(lab.service.url, lab.folder, experiment__mix="browse", report={}, **fields)
    record = lab.services.rollouts.request(plan, by="api")
    lab.execute_until(record.rollout_id, stored)

    ended = lab.services.rollouts.execute(record.rollout_id, threading.Event())

    assert [window.index for window in ended.windows] == list(range(14))
    assert ended.planned_windows == 14


def test_number_of_rounds_is_planned_once_from_the_first_rounds(lab: RolloutLab) -> None:
    # From the third round on, the figures vary so much that a new plan would want more rounds.
    record = lab.run(**automatic(lab, lambda read: read % 3 if read < 4 else 90 * (read % 3)))

    assert len(record.windows) == 14


def test_rollout_is_an_agent_run(lab: RolloutLab) -> None:
    lab.service.delay_s = slower_b

    record = lab.run()
    run, _ = lab.services.telemetry.load(f"rollout.{record.rollout_id}")

    assert run.status == "failure"
    assert run.error_type == "rollout_verdict_fail"
    assert [step.name for step in run.steps] == ["health", "plan", "execute", "judge", "restore"]
    assert [call.tool_name for call in run.tool_calls] == ["measure_window"] * 4
