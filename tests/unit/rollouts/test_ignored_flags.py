"""A change of flags that the target ignores in part: the error names the fields, not the whole change."""

from __future__ import annotations

import pytest

from relab.core.json import JsonValue
from relab.rollouts.errors import FlagsNotAppliedError
from relab.rollouts.targets.protocol import FlagState, change_flags

FOUND: JsonValue = {"control": {"policy": "aimd", "target_p95_ms": 1200}, "routing": {"enabled": True}}
WANTED: JsonValue = {
    "control": {"policy": "off", "target_p95_ms": 1200, "max_batch_size": 32},
    "routing": {"enabled": True},
}


class DeafTarget:
    """Flags that accept each change and keep their values."""

    name = "shop"

    def read(self) -> FlagState:
        return FlagState(FOUND)

    def send(self, wanted: JsonValue, expected: str | None) -> None:
        """Accept the change."""

    def holds(self, state: FlagState, wanted: JsonValue) -> bool:
        return state.value == wanted

    def inverse(self, wanted: JsonValue, before: FlagState) -> JsonValue:
        raise NotImplementedError

    def command(self, wanted: JsonValue) -> str:
        raise NotImplementedError


def test_error_names_the_ignored_fields_and_where_others_are_described() -> None:
    with pytest.raises(FlagsNotAppliedError) as raised:
        change_flags(DeafTarget(), WANTED, within_s=0.0)

    message = str(raised.value)
    assert 'control.policy is "aimd", not "off"' in message
    assert "control.max_batch_size is missing" in message
    assert "target_p95_ms" not in message
    assert "subject.flags" in message
