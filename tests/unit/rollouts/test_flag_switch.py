"""The switch between the flags of the arms."""

from __future__ import annotations

from typing import Any, cast

import pytest

from relab.rollouts.errors import FlagsChangedError
from relab.rollouts.execution.flag_switch import FlagSwitch
from relab.rollouts.targets.protocol import FlagState


class Flags:
    """A flag without versions that another client has set to 1."""

    name = "flag"

    def read(self) -> FlagState:
        return FlagState(1)


def test_change_from_true_to_1_by_another_client_is_noticed() -> None:
    switch = FlagSwitch(cast("Any", Flags()), FlagState(True), within_s=1)

    with pytest.raises(FlagsChangedError):
        switch.check()
