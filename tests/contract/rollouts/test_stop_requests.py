"""Rollouts that a person stops, whichever process executes them: their flags are restored, and the audit names the person."""

from __future__ import annotations

import threading

import pytest

from relab.rollouts.errors import RolloutStateError, WorkerStoppingError
from relab.rollouts.execution.progress import RolloutProgress
from relab.rollouts.handlers import RolloutHandlers
from relab.rollouts.record import RolloutRecord, RolloutStatus
from support.rollouts.plans import CONC_CAP, small_plan
from support.rollouts.rollout_lab import RolloutLab

WINDOWS_TO_B = 4
"""Number of windows after which the last one was of arm B, so that its flags are in force."""


def queued(lab: RolloutLab, *, rounds: int = 3) -> str:
    """Queue a rollout, and return its id."""
    plan = small_plan(lab.service.url, lab.folder, experiment__rounds=rounds, experiment__mix="browse", report={})
    return lab.services.rollouts.request(plan, by="api").rollout_id


def run_job(lab: RolloutLab, rollout_id: str, worker_stop: threading.Event | None = None) -> None:
    """Execute the job of a rollout, as a worker does that ends when `worker_stop` is set."""
    stop = worker_stop or threading.Event()
    RolloutHandlers(lambda: lab.services.rollouts, lambda: stop).execute({"rollout_id": rollout_id})


def test_rollout_that_is_stopped_while_the_flags_of_arm_b_are_in_force_restores_them(lab: RolloutLab) -> None:
    # With so many rounds the worker reads the request before the last window.
    rollout_id = queued(lab, rounds=100)

    def stop_in_arm_b() -> None:
        if lab.limit() == CONC_CAP and not lab.last().status.is_over:
            lab.services.rollouts.stop(rollout_id, by="ann", note="Not now.")

    lab.service.on_work = stop_in_arm_b
    run_job(lab, rollout_id)

    ended = lab.last()
    assert ended.status is RolloutStatus.INTERRUPTED
    assert ended.error == "ann stopped the rollout: Not now."
    assert ended.flags_restored
    assert lab.limit() == 32
    # Every request of the load repeats the stop; only the first one is recorded.
    assert [entry.action for entry in ended.audit] == ["requested", "stopped"]


def test_record_of_a_stopped_rollout_has_the_person_as_soon_as_the_rollout_is_over(lab: RolloutLab) -> None:
    over: list[RolloutRecord] = []

    def stop_in_arm_b() -> None:
        if lab.limit() == CONC_CAP and not lab.last().status.is_over:
            lab.services.rollouts.stop(lab.last().rollout_id, by="ann", note="Not now.")

    def read(_progress: RolloutProgress) -> None:
        if lab.last().status.is_over:
            over.append(lab.last())

    lab.service.on_work = stop_in_arm_b
    lab.on_progress = read
    lab.run(experiment__rounds=100, experiment__mix="browse", report={})

    assert over
    assert {record.error for record in over} == {"ann stopped the rollout: Not now."}
    assert {record.audit[-1].action for record in over} == {"stopped"}
    assert None not in {record.finished_at for record in over}


def test_rollout_whose_worker_died_is_stopped_and_its_flags_restored_by_the_person_who_stops_it(
    lab: RolloutLab,
) -> None:
    rollout_id = queued(lab)
    lab.execute_until(rollout_id, WINDOWS_TO_B)
    assert lab.limit() == CONC_CAP

    stopped = lab.services.rollouts.stop(rollout_id, by="ann")

    assert stopped.status is RolloutStatus.INTERRUPTED
    assert lab.limit() == 32
    run_job(lab, rollout_id)
    assert lab.last().status is RolloutStatus.INTERRUPTED


def test_rollout_that_waits_for_another_one_ends_at_its_next_attempt_after_it_was_stopped(lab: RolloutLab) -> None:
    rollout_id = queued(lab)
    with lab.services.rollouts._leases.hold(lab.last().target, "other"):
        waiting = lab.services.rollouts.stop(rollout_id, by="ann")
        assert waiting.status is RolloutStatus.QUEUED
        run_job(lab, rollout_id)

    assert lab.last().status is RolloutStatus.INTERRUPTED


def test_rollout_that_is_over_cannot_be_stopped(lab: RolloutLab) -> None:
    rollout_id = queued(lab)
    run_job(lab, rollout_id)

    with pytest.raises(RolloutStateError):
        lab.services.rollouts.stop(rollout_id, by="ann")

    assert lab.last().status is RolloutStatus.DONE


def test_rollout_of_a_stopped_worker_restores_the_flags_and_continues_later(lab: RolloutLab) -> None:
    rollout_id, worker_stop = queued(lab), threading.Event()
    seen: list[int] = []

    def stop_worker_in_arm_b() -> None:
        seen.append(lab.limit())
        if lab.limit() == CONC_CAP and len(lab.last().windows) >= 3:
            worker_stop.set()

    lab.service.on_work = stop_worker_in_arm_b
    with pytest.raises(WorkerStoppingError):
        run_job(lab, rollout_id, worker_stop)

    left = lab.last()
    assert seen[-1] == CONC_CAP
    assert lab.limit() == 32
    assert left.status is RolloutStatus.RUNNING
    assert left.error is None
    assert not lab.services.rollouts.must_restore(rollout_id)
    lab.service.on_work = lambda: None
    run_job(lab, rollout_id)

    ended = lab.last()
    assert ended.status is RolloutStatus.DONE
    assert ended.windows[:2] == left.windows[:2]
    assert [window.index for window in ended.windows] == [0, 1, 2, 3, 4, 5]
    assert lab.limit() == 32
