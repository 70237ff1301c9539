"""The exit codes of `lab` for errors."""

from __future__ import annotations

import pytest

from relab.cli.output import report_error
from relab.rollouts.errors import RolloutStateError, TargetBusyError


def test_target_in_use_by_another_rollout_is_unavailable_and_not_a_failed_rollout(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert report_error(TargetBusyError("The flags are in use.", remedy="Wait.")) == 69
    assert "The flags are in use. Wait." in capsys.readouterr().err
    assert report_error(RolloutStateError("It is over.")) == 1
