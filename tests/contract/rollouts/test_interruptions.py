"""Rollouts whose worker dies, whose target is down, or that are stopped: no change of flags is forgotten or overwritten."""

from __future__ import annotations

import signal
import threading
from itertools import count
from urllib.parse import parse_qs, urlsplit

import pytest
from sqlalchemy import delete

from relab.core.errors import RelabError
from relab.rollouts import leases
from relab.rollouts.errors import (
    EndNotStoredError,
    FlagsChangedError,
    TargetLeaseLostError,
    TargetUnavailableError,
    TargetUnhealthyError,
)
from relab.rollouts.execution.progress import RolloutProgress
from relab.rollouts.handlers import RolloutHandlers
from relab.rollouts.models import Arm
from relab.rollouts.record import OpenChange, RolloutPhase, RolloutStatus
from relab.rollouts.tables import RolloutLeaseRow
from relab.stats.verdicts import Verdict
from relab.storage.base import table_of
from support.rollouts.plans import CONC_CAP, faster_b, small_plan
from support.rollouts.rollout_lab import RolloutLab, WorkerDiedError

WINDOWS_TO_A, WINDOWS_TO_B = 3, 4
"""Numbers of windows after which the last one was of arm A or B, so that the flags of that arm are in force."""


def queued(lab: RolloutLab, *, timeout: float = 2) -> str:
    """Queue a rollout of three rounds, and return its id."""
    plan = small_plan(
        lab.service.url, lab.folder, timeout=timeout, experiment__rounds=3, experiment__mix="browse", report={}
    )
    return lab.services.rollouts.request(plan, by="api").rollout_id


def run_job(lab: RolloutLab, rollout_id: str) -> None:
    """Execute the job of a rollout, as a worker does."""
    RolloutHandlers(lambda: lab.services.rollouts, threading.Event).execute({"rollout_id": rollout_id})


def test_queued_rollout_restores_the_flags_and_continues_after_its_worker_died(lab: RolloutLab) -> None:
    rollout_id = queued(lab)
    kept = lab.execute_until(rollout_id, 3)
    assert kept.status is RolloutStatus.RUNNING

    ended = lab.services.rollouts.execute(rollout_id, threading.Event())

    assert ended.status is RolloutStatus.DONE
    assert [window.index for window in ended.windows] == [0, 1, 2, 3, 4, 5]
    assert ended.windows[:2] == kept.windows[:2]
    assert ended.windows[2] != kept.windows[2]
    assert lab.limit() == 32


def test_worker_that_is_back_before_the_target_restores_the_flags_later(lab: RolloutLab) -> None:
    rollout_id = queued(lab, timeout=1)
    lab.execute_until(rollout_id, WINDOWS_TO_B)
    assert lab.limit() == CONC_CAP
    lab.service.change_status = 503

    with pytest.raises(TargetUnavailableError):
        run_job(lab, rollout_id)

    assert lab.last().status is RolloutStatus.RUNNING
    lab.service.change_status = None
    run_job(lab, rollout_id)
    assert lab.last().status is RolloutStatus.DONE
    assert lab.limit() == 32


def test_flags_of_a_rollout_that_was_given_up_are_restored_by_a_later_command(lab: RolloutLab) -> None:
    rollout_id = queued(lab, timeout=1)
    lab.execute_until(rollout_id, WINDOWS_TO_B)
    lab.service.change_status = 503

    lab.services.rollouts.fail(rollout_id, "The target is down.")

    assert lab.last().status is RolloutStatus.FAILED
    assert lab.limit() == CONC_CAP
    lab.service.change_status = None
    assert [found.restored for found in lab.services.rollouts.recover()] == [True]
    assert lab.limit() == 32


def test_job_of_a_failed_rollout_is_retried_until_its_flags_are_restored(lab: RolloutLab) -> None:
    rollout_id = queued(lab, timeout=1)

    def stop_answering() -> None:
        if lab.limit() == CONC_CAP:
            lab.service.change_status = 503

    lab.service.on_work = stop_answering
    with pytest.raises(TargetUnavailableError):
        run_job(lab, rollout_id)
    assert lab.last().status is RolloutStatus.FAILED
    assert lab.limit() == CONC_CAP

    lab.service.change_status = None
    run_job(lab, rollout_id)

    assert lab.last().status is RolloutStatus.FAILED
    assert lab.last().flags_restored
    assert lab.limit() == 32


def test_earlier_change_by_another_client_does_not_count_as_an_open_one(lab: RolloutLab) -> None:
    rollout_id, before = queued(lab), lab.service.flags
    lab.execute_until(rollout_id, WINDOWS_TO_B)
    lab.service.change({"control": {"max_concurrency": 7}}, None)
    lab.services.rollouts.recover()
    assert lab.last().flags_restored is False
    lab.service.flags = before

    ended = lab.services.rollouts.execute(rollout_id, threading.Event())

    assert ended.flags_restored is True


def test_continued_rollout_leaves_flags_alone_that_an_operator_has_changed(lab: RolloutLab) -> None:
    rollout_id = queued(lab)
    lab.execute_until(rollout_id, WINDOWS_TO_B)
    lab.service.change({"control": {"max_concurrency": 7}}, None)
    before = len(lab.service.changes)

    with pytest.raises(FlagsChangedError, match="since this rollout read them"):
        lab.services.rollouts.execute(rollout_id, threading.Event())

    assert lab.limit() == 7
    assert len(lab.service.changes) == before


def test_flags_are_restored_if_the_progress_cannot_be_reported(lab: RolloutLab) -> None:
    def fail_in_arm_b(_: RolloutProgress) -> None:
        if lab.limit() == CONC_CAP:
            raise BrokenPipeError

    lab.on_progress = fail_in_arm_b

    with pytest.raises(BrokenPipeError):
        lab.run()

    assert lab.limit() == 32
    assert lab.last().status is RolloutStatus.FAILED
    assert lab.services.rollouts.recover() == []


def test_target_that_rejects_every_change_counts_as_restored_if_its_flags_are_as_before(lab: RolloutLab) -> None:
    lab.execute_until(queued(lab), WINDOWS_TO_A)
    lab.service.change_status = 401

    recovered = lab.services.rollouts.recover()

    assert [found.restored for found in recovered] == [True]
    assert lab.services.rollouts.recover() == []


def test_target_that_rejects_every_change_is_not_restored_with_other_flags(lab: RolloutLab) -> None:
    lab.execute_until(queued(lab), WINDOWS_TO_B)
    lab.service.change_status = 401

    recovered = lab.services.rollouts.recover()

    assert [found.restored for found in recovered] == [False]
    assert lab.limit() == CONC_CAP


def test_rollout_that_is_stopped_while_it_judges_is_not_applied(lab: RolloutLab) -> None:
    lab.service.delay_s = faster_b

    def stop_in_judgement(progress: RolloutProgress) -> None:
        if progress.phase is RolloutPhase.JUDGE:
            lab.stop.set()

    lab.on_progress = stop_in_judgement

    record = lab.run(policy="seed")

    assert record.status is RolloutStatus.INTERRUPTED
    assert record.application is not None
    assert not record.application.applied
    assert lab.limit() == 32


def test_time_budget_ends_the_wait_for_a_metric(lab: RolloutLab) -> None:
    lab.service.documents["/api/v1/query"] = lambda path: {
        "data": {"resultType": "scalar", "result": [0, parse_qs(urlsplit(path).query)["time"][0]]}
    }
    metric = {"kind": "prometheus", "url": lab.service.url, "query": "x", "delay_s": 5}

    record = lab.run(time_budget=1.5, subject={"flags": {"kind": "service"}, "metric": metric})

    assert record.windows == ()
    assert record.judgement is not None
    assert record.judgement.verdict is Verdict.INVALID
    assert lab.limit() == 32


def test_process_that_lost_its_lease_changes_and_stores_nothing_more(
    lab: RolloutLab, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(leases, "LEASE_S", 3.0)
    store, database = lab.services.rollouts._store, lab.services.database
    taken = threading.Event()

    def take_over_in_arm_b() -> None:
        """Acquire the lease, restore the flags and measure arm B, as another machine would."""
        if taken.is_set() or lab.limit() != CONC_CAP:
            return
        taken.set()
        record = lab.last()
        with database.write() as unit:
            unit.session.execute(delete(table_of(RolloutLeaseRow)))
        store.save(record.model_copy(update={"status": RolloutStatus.INTERRUPTED}), closes_change=True)

    lab.service.on_work = take_over_in_arm_b

    with pytest.raises(TargetLeaseLostError):
        lab.run(experiment__window_sec=4)

    assert lab.limit() == CONC_CAP
    assert lab.last().status is RolloutStatus.INTERRUPTED
    assert lab.last().finished_at is None


def test_failed_rollback_that_restores_the_flags_even_so_is_no_longer_applied(lab: RolloutLab) -> None:
    lab.service.delay_s = faster_b
    record = lab.run(policy="seed")
    assert lab.limit() == CONC_CAP
    requests = count(1)

    def reject_first_change() -> None:
        lab.service.change_status = 503 if next(requests) <= 2 else None

    lab.service.on_request = reject_first_change

    with pytest.raises(TargetUnavailableError):
        lab.services.rollouts.roll_back(record.rollout_id, by="ada")

    assert lab.limit() == 32
    application = lab.last().application
    assert application is not None
    assert not application.applied
    assert lab.last().flags_restored
    assert [(entry.actor, entry.action) for entry in lab.last().audit[-1:]] == [("ada", "rolled_back")]


def test_rollback_that_was_interrupted_is_in_the_audit_after_recovery(lab: RolloutLab) -> None:
    lab.service.delay_s = faster_b
    record = lab.run(policy="seed")
    requests = count(1)

    def interrupt_change() -> None:
        if next(requests) == 2:
            signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)

    lab.service.on_request = interrupt_change
    with pytest.raises(KeyboardInterrupt):
        lab.services.rollouts.roll_back(record.rollout_id, by="ada", note="too slow")

    lab.services.rollouts.recover()

    assert lab.limit() == 32
    entries = [(entry.actor, entry.action, entry.note) for entry in lab.last().audit]
    assert entries[-1] == ("ada", "rolled_back", "too slow")


def test_change_that_a_killed_rollback_had_begun_is_no_longer_applied_after_recovery(lab: RolloutLab) -> None:
    lab.service.delay_s = faster_b
    record = lab.run(policy="seed")
    inverse = {"control": {"max_concurrency": 32}}
    change = OpenChange(inverse=inverse, values=[record.changes[Arm.B]])
    lab.services.rollouts._store.open_change(record.rollout_id, change)

    lab.services.rollouts.recover()

    assert lab.limit() == 32
    application = lab.last().application
    assert application is not None
    assert not application.applied


def test_command_that_was_killed_before_it_changed_flags_is_interrupted(lab: RolloutLab) -> None:
    def die(_: RolloutProgress) -> None:
        raise WorkerDiedError

    lab.on_progress = die
    with pytest.raises(WorkerDiedError):
        lab.run()
    assert lab.last().status is RolloutStatus.QUEUED

    lab.services.rollouts.recover()

    assert lab.last().status is RolloutStatus.INTERRUPTED


def test_queued_rollout_is_not_ended_by_a_recovery(lab: RolloutLab) -> None:
    queued(lab)

    assert lab.services.rollouts.recover() == []
    assert lab.last().status is RolloutStatus.QUEUED


def test_error_after_an_applied_change_says_that_the_flags_are_in_force(lab: RolloutLab) -> None:
    lab.service.delay_s = faster_b

    def break_reports(progress: RolloutProgress) -> None:
        if progress.phase is RolloutPhase.APPLY:
            (lab.folder / "reports").rmdir()
            (lab.folder / "reports").write_text("a file, and not a folder")

    lab.on_progress = break_reports

    with pytest.raises(EndNotStoredError, match="are in force"):
        lab.run(policy="seed")

    assert lab.limit() == CONC_CAP
    assert lab.last().application is not None


def test_stop_while_the_new_flags_are_set_for_good_restores_the_earlier_flags(lab: RolloutLab) -> None:
    lab.service.delay_s = faster_b
    is_applying = threading.Event()
    lab.on_progress = lambda progress: is_applying.set() if progress.phase is RolloutPhase.APPLY else None

    def stop_after_the_change() -> None:
        # Arm A was measured last, so the next change applies arm B.
        if is_applying.is_set() and lab.limit() == CONC_CAP:
            lab.stop.set()

    lab.service.on_request = stop_after_the_change

    record = lab.run(policy="seed", experiment__order="abba")

    assert record.judgement is not None
    assert record.judgement.verdict is Verdict.PASS
    assert record.status is RolloutStatus.INTERRUPTED
    assert record.application is not None
    assert not record.application.applied
    assert lab.limit() != CONC_CAP


def test_retry_of_a_job_whose_end_was_not_published_ends_the_progress(lab: RolloutLab) -> None:
    rollout_id = queued(lab)
    lab.services.rollouts.execute(rollout_id, threading.Event())
    ended = [event.status for event in lab.services.progress.read_after(rollout_id)]

    run_job(lab, rollout_id)

    assert lab.services.progress.read_after(rollout_id)[len(ended) :][-1].status == ended[-1] == "done"


def test_retry_of_a_failed_rollout_whose_flags_are_still_changed_ends_the_progress(lab: RolloutLab) -> None:
    rollout_id = queued(lab)
    died = lab.execute_until(rollout_id, 3)
    # The worker has stored the failure, and died before it restored the flags and published the end.
    lab.services.rollouts._store.save(died.model_copy(update={"status": RolloutStatus.FAILED, "error": "It failed."}))

    run_job(lab, rollout_id)

    assert lab.limit() == 32
    assert lab.services.progress.read_after(rollout_id)[-1].status == "failed"


def test_dry_run_on_a_target_that_is_down_is_not_a_failed_rollout(lab: RolloutLab) -> None:
    with pytest.raises(TargetUnhealthyError):
        lab.run(is_dry_run=True, base_url="http://127.0.0.1:9")

    assert lab.services.rollouts.list_rollouts().items == []


def test_busy_target_keeps_a_queued_rollout_waiting(lab: RolloutLab) -> None:
    rollout_id = queued(lab)
    with lab.services.rollouts._leases.hold(lab.last().target, "another"), pytest.raises(RelabError, match="in use"):
        run_job(lab, rollout_id)
    assert lab.last().status is RolloutStatus.QUEUED

    run_job(lab, rollout_id)

    assert lab.last().status is RolloutStatus.DONE
