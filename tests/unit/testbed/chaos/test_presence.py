"""Presence of faults: whether a fault still acts, according to the supervisor and the target."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import pytest

from relab.testbed.actions.plant import PlantError
from relab.testbed.chaos.faults.catalogue import find_fault
from relab.testbed.chaos.ground import Ground
from relab.testbed.chaos.models import UnknownFaultError
from relab.testbed.chaos.presence import ChangedDocument


def ground_with(limits: dict[str, float | None]) -> Ground:
    """Return a ground whose target has these limits."""
    plant = SimpleNamespace(components=lambda _: [{"limits": limits}])
    return cast("Ground", SimpleNamespace(plant=plant))


@pytest.mark.parametrize(
    ("given", "cpu_pct", "is_there"),
    [
        ({"cpu_pct": 5.0}, None, False),
        ({"cpu_pct": 5.0}, 5.0, True),
        ({"cpu_pct": 5.0}, 400.0, False),
        # The first step of a ramp is a tenth of the fault, and the fault counts as present from that step on.
        ({"cpu_pct": 5.0, "ramp_s": 6.0}, 90.5, True),
        ({"cpu_pct": 5.0, "ramp_s": 6.0}, 5.0, True),
        ({"cpu_pct": 5.0, "ramp_s": 6.0}, 400.0, False),
    ],
)
def test_cpu_quota_is_present_from_its_first_step_until_it_is_raised(
    given: dict[str, Any], cpu_pct: float | None, *, is_there: bool
) -> None:
    fault = find_fault("cpu_throttle")
    presence = fault.presence(ground_with({"cpu_pct": cpu_pct}), fault.read_parameters(given))
    presence.begun()

    assert presence.is_there() is is_there


def test_unknown_fault_has_no_presence_test() -> None:
    with pytest.raises(UnknownFaultError) as refused:
        find_fault("cache_frozen")
    assert refused.value.remedy is not None
    assert "cache_latency" in refused.value.remedy


def test_noise_is_not_a_fault() -> None:
    with pytest.raises(UnknownFaultError):
        find_fault("batch_job")


def test_changed_document_is_present_while_all_changed_values_are_unchanged() -> None:
    now: dict[str, Any] = {"version": 1, "database": {"port": 5_432, "pool_size": 5}}
    presence = ChangedDocument(lambda: now)
    now = {"version": 2, "database": {"port": 9, "pool_size": 1}}
    presence.begun()
    assert presence.is_there() is True

    # Another change of the document is not a repair, although it changes the version.
    now = {"version": 3, "database": {"port": 9, "pool_size": 1, "timeout_s": 2}}
    assert presence.is_there() is True

    now = {"version": 4, "database": {"port": 9, "pool_size": 5}}
    assert presence.is_there() is False


def test_presence_is_unknown_while_a_component_does_not_answer() -> None:
    def unreadable(_: str) -> Any:
        raise PlantError("The supervisor does not answer.")

    ground = cast("Ground", SimpleNamespace(plant=SimpleNamespace(components=unreadable)))
    fault = find_fault("cache_down")
    assert fault.presence(ground, fault.read_parameters({})).is_there() is None
