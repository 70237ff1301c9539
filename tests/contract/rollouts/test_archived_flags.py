"""Rollouts of a flag of this product that is archived, before, during or after the rollout."""

from __future__ import annotations

from typing import Any

import pytest

from relab.flags.models import FlagContent
from relab.rollouts.errors import FlagsChangedError, SubjectError
from relab.rollouts.record import RolloutRecord, RolloutStatus
from relab.stats.verdicts import Verdict
from support.rollouts.rollout_lab import RolloutLab

KEY = "checkout.search"
CONTENT: dict[str, Any] = {"value_type": "boolean", "variants": {"on": True, "off": False}, "default_variant": "off"}


def run(lab: RolloutLab) -> RolloutRecord:
    """Run a rollout that passes if it can measure its windows."""
    lab.service.figures = lambda _path: {"p95": 20.0 if is_on(lab) else 100.0}
    subject = {
        "flags": {"kind": "product_flag", "key": KEY, "a": "off", "b": "on"},
        "metric": {"kind": "json", "url": f"{lab.service.url}/figures", "pointer": "/p95"},
    }
    experiment = {"qps": 60, "window_sec": 0.25, "warmup_sec": 0, "rounds": 2, "order": "abab"}
    mix = str(lab.folder / "mix.yaml")
    return lab.run(policy="seed", subject=subject, experiment={**experiment, "mix": mix})


def is_on(lab: RolloutLab) -> bool:
    content = lab.services.flags.get(KEY).content
    return any(rule.serve.variant == "on" for rule in content.rules)


def archive(lab: RolloutLab) -> None:
    lab.services.flags.archive(KEY, expected=None, author="operator")


@pytest.fixture(autouse=True)
def _flag(lab: RolloutLab) -> None:
    lab.services.flags.create(KEY, FlagContent.model_validate(CONTENT), author="test")


def test_rollout_of_an_archived_flag_ends_before_its_first_change(lab: RolloutLab) -> None:
    archive(lab)

    with pytest.raises(SubjectError, match="is archived") as error:
        run(lab)

    assert error.value.remedy == f"Bring it back with `lab flags rollback {KEY} --to VERSION`."
    assert lab.last().status is RolloutStatus.FAILED
    assert lab.last().flags_restored is None
    assert lab.services.rollouts.recover() == []


def test_flag_that_is_archived_during_a_rollout_stays_archived(lab: RolloutLab) -> None:
    def archive_once() -> None:
        if is_on(lab) and not lab.services.flags.get(KEY).is_archived:
            archive(lab)

    lab.service.on_work = archive_once

    record = run(lab)

    assert record.judgement is not None
    assert record.judgement.verdict is Verdict.INVALID
    assert "Another client changed the flags" in record.judgement.reason
    assert record.flags_restored is False
    assert lab.services.flags.get(KEY).is_archived
    # Nothing is left to restore, so the next command neither warns nor rejects a rollout of the flag.
    assert lab.services.rollouts.recover() == []


def test_rollback_after_the_flag_was_archived_is_rejected(lab: RolloutLab) -> None:
    record = run(lab)
    assert record.application is not None
    assert record.application.applied, record.judgement
    archive(lab)

    with pytest.raises(FlagsChangedError, match="changed since the rollout"):
        lab.services.rollouts.roll_back(record.rollout_id, by="tester")

    assert lab.services.flags.get(KEY).is_archived
    assert lab.services.rollouts.recover() == []
