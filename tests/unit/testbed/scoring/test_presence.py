"""Whether a fault is present, by what the supervisor and the target report."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import pytest

from relab.testbed.chaos.ground import Ground
from relab.testbed.scoring.presence import Presence


def ground_with(limits: dict[str, float | None]) -> Ground:
    """Return a testbed whose target has these limits at present."""
    plant = SimpleNamespace(components=lambda _: [{"limits": limits}])
    return cast("Ground", SimpleNamespace(plant=plant))


@pytest.mark.parametrize(
    ("given", "cpu_pct", "is_there"),
    [
        ({"cpu_pct": 5.0}, None, False),
        ({"cpu_pct": 5.0}, 5.0, True),
        ({"cpu_pct": 5.0}, 400.0, False),
        # A ramp begins with a tenth of the fault: it is present from there on, not only at its end.
        ({"cpu_pct": 5.0, "ramp_s": 6.0}, 90.5, True),
        ({"cpu_pct": 5.0, "ramp_s": 6.0}, 5.0, True),
        ({"cpu_pct": 5.0, "ramp_s": 6.0}, 400.0, False),
    ],
)
def test_limit_of_processor_time_is_present_from_its_first_step_until_it_is_raised(
    given: dict[str, Any], cpu_pct: float | None, *, is_there: bool
) -> None:
    presence = Presence(ground_with({"cpu_pct": cpu_pct}), "cpu_throttle", given)
    presence.begun()

    assert presence.is_there() is is_there
