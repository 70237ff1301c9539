"""Targets that make only a part of a change, or reject its restoration."""

from __future__ import annotations

from itertools import chain, repeat
from typing import Any

import pytest
import yaml

from relab.rollouts.errors import FlagsNotAppliedError, FlagsNotRestoredError
from relab.rollouts.execution.progress import RolloutProgress
from relab.rollouts.plans.reading import parse_plan
from relab.rollouts.record import RolloutRecord
from relab.stats.verdicts import Verdict
from support.rollouts.plans import CONC_CAP, faster_b
from support.rollouts.rollout_lab import RolloutLab


def run_with_limit(lab: RolloutLab, wanted: int) -> RolloutRecord:
    """Run a rollout of two rounds over the single flag of the small service."""
    flag = {"kind": "http", "url": f"{lab.service.url}/limit", "body": {"limits": {"max": "$value"}}}
    document = {
        "base_url": lab.service.url,
        "timeout": 1,
        "experiment": {"qps": 60, "window_sec": 0.25, "warmup_sec": 0.05, "rounds": 2, "mix": "browse"},
        "subject": {"flags": {**flag, "pointer": "/state/max", "b": wanted}},
    }
    return lab.services.rollouts.run(
        parse_plan(yaml.safe_dump(document), "plan.yaml"),
        by="tester",
        stop=lab.stop,
        on_progress=lab.on_progress,
        root=lab.folder,
    )


def test_change_that_the_target_made_in_part_is_undone(lab: RolloutLab) -> None:
    lab.service.max_limit = 64

    with pytest.raises(FlagsNotAppliedError) as raised:
        run_with_limit(lab, 100)

    assert raised.value.values == (64,)
    assert lab.service.limit == 10
    assert lab.last().flags_restored
    assert "have other values (the value is 64, not 100) " in str(lab.last().error)
    assert lab.services.rollouts.recover() == []


def test_application_that_the_target_made_in_part_is_undone(lab: RolloutLab) -> None:
    lab.service.answer = lambda _path: (0.005 if lab.service.limit == 100 else 0.1, 200)
    record = run_with_limit(lab, 100)
    assert record.judgement is not None
    assert record.judgement.verdict is Verdict.EDGE
    lab.service.max_limit = 64

    with pytest.raises(FlagsNotAppliedError):
        lab.services.rollouts.apply(record.rollout_id, by="ada")

    assert lab.service.limit == 10
    assert lab.services.rollouts.recover() == []


def test_restoration_that_the_target_rejects_is_an_error_of_its_own(lab: RolloutLab) -> None:
    def reject_after_two_windows(progress: RolloutProgress) -> None:
        if progress.windows_done == 2:
            lab.service.change_status = 401

    lab.on_progress = reject_after_two_windows
    with pytest.raises(FlagsNotRestoredError):
        lab.run(experiment__order="abba", experiment__rounds=3)

    assert lab.limit() == CONC_CAP
    assert lab.last().flags_restored is False
    lab.service.change_status = None
    assert [found.restored for found in lab.services.rollouts.recover()] == [True]
    assert lab.limit() == 32


@pytest.mark.parametrize("command", ["apply", "rollback"])
def test_decision_whose_restoration_fails_names_both_errors_and_the_next_command_restores(
    lab: RolloutLab, monkeypatch: pytest.MonkeyPatch, command: str
) -> None:
    lab.service.delay_s = faster_b
    record = lab.run()
    assert record.judgement is not None
    assert record.judgement.verdict is Verdict.EDGE, record.judgement
    rollouts = lab.services.rollouts
    if command == "rollback":
        rollouts.apply(record.rollout_id, by="ada")
    decide = rollouts.apply if command == "apply" else rollouts.roll_back
    statuses = chain([422], repeat(503))

    def reject(_document: Any, _if_match: str | None) -> tuple[int, dict[str, Any]]:
        status = next(statuses)
        return status, {"detail": f"the reason of {status}"}

    with monkeypatch.context() as patched:
        patched.setattr(lab.service, "change", reject)
        with pytest.raises(FlagsNotRestoredError) as raised:
            decide(record.rollout_id, by="ada")
    failed = lab.last()

    assert "the reason of 422" in raised.value.message
    assert "Restoring the flags failed, too" in raised.value.message
    assert "503" in raised.value.message
    assert failed.flags_restored is False
    assert failed.application is not None
    assert not failed.application.applied
    assert failed.application.message == raised.value.message
    assert [found.restored for found in rollouts.recover()] == [True]
    assert lab.limit() == 32
    assert lab.last().flags_restored
    decided = [(entry.actor, entry.action) for entry in lab.last().audit[-2:]]
    assert (decided == [("ada", "applied"), ("ada", "rolled_back")]) is (command == "rollback")
