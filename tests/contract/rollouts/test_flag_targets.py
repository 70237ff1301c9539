"""The conformance suite of flag targets: every kind reads, changes, checks and restores its flags in the same way."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from contract.rollouts.conftest import Case
from relab.rollouts.errors import FlagsChangedError, FlagsNotAppliedError, FlagsRejectedError
from relab.rollouts.targets.protocol import change_flags


def test_change_is_in_force_when_it_returns(case: Case) -> None:
    before = case.target.read()
    assert not case.target.holds(before, case.change)

    after = change_flags(case.target, case.change, expected=before.version, within_s=10.0)

    assert case.target.holds(after, case.change)
    assert case.target.holds(case.target.read(), case.change)
    assert after.version != before.version


def test_inverse_restores_the_whole_value(case: Case) -> None:
    before = case.target.read()
    inverse = case.target.inverse(case.change, before)
    change_flags(case.target, case.change, within_s=10.0)

    restored = change_flags(case.target, inverse, within_s=10.0)

    assert restored.value == before.value


def test_inverse_already_holds_before_the_change(case: Case) -> None:
    before = case.target.read()

    assert case.target.holds(before, case.target.inverse(case.change, before))


def test_change_for_another_version_is_rejected(case: Case) -> None:
    before = case.target.read()
    case.outside()
    changed = case.target.read()

    with pytest.raises(FlagsChangedError):
        case.target.send(case.change, before.version)

    assert case.target.read().value == changed.value


def test_change_without_version_is_accepted_after_another_change(case: Case) -> None:
    case.outside()

    assert case.target.holds(change_flags(case.target, case.change, within_s=10.0), case.change)


def test_invalid_change_is_rejected_and_changes_nothing(case: Case) -> None:
    before = case.target.read()

    with pytest.raises(FlagsRejectedError):
        case.rejecting.send(case.rejected, None)

    assert case.target.read().value == before.value


def test_change_that_is_not_made_is_an_error(case: Case) -> None:
    if case.set_forgetful is None:
        pytest.skip("its changes are transactions of this product")
    case.set_forgetful()

    with pytest.raises(FlagsNotAppliedError, match="have other values"):
        change_flags(case.target, case.change, within_s=0.0)


def test_printed_command_makes_the_change(case: Case) -> None:
    command = case.target.command(case.change)
    programs = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    environment = {**(case.environment or os.environ), "PATH": programs}

    done = subprocess.run(["sh", "-c", command], capture_output=True, check=False, timeout=60, env=environment)

    assert done.returncode == 0, done.stderr
    assert case.target.holds(case.target.read(), case.change)
