"""The build simulator: its outcomes and durations follow the measured builds."""

from __future__ import annotations

import numpy as np
import pytest

from relab.builds.errors import UnknownBuildActionError, UnmeasuredFaultError
from relab.builds.models import BuildFailure, BuildStatus
from relab.builds.monitor.simulator import BuildSimulator, FitRow, MeasuredBuildRow, shipped_simulator
from relab.builds.optimizer.catalogue import CATALOGUE


@pytest.fixture(scope="module")
def fit() -> list[FitRow]:
    """The fit of the shipped simulator to its measurements, computed once because it takes a second."""
    return shipped_simulator().fit()


def measured(action_id: int, duration_s: float, failure: BuildFailure | None = None) -> MeasuredBuildRow:
    return MeasuredBuildRow(
        fault="memory",
        action_id=action_id,
        status=BuildStatus.SUCCESS if failure is None else BuildStatus.FAILED,
        failure=failure,
        error=None if failure is None else "Out of memory during build",
        duration_s=duration_s,
        peak_memory_mb=64.0,
    )


def test_outcomes_have_their_measured_frequencies_and_durations() -> None:
    failed = [measured(0, 2.0, BuildFailure.OUT_OF_MEMORY)]
    simulator = BuildSimulator([*failed, measured(0, 8.0), measured(0, 9.0), measured(0, 10.0)])
    generator = np.random.default_rng(1)

    builds = [simulator.build("memory", 0, generator) for _ in range(4_000)]

    durations = [build.duration_s for build in builds if build.status is BuildStatus.SUCCESS]
    assert len(durations) / len(builds) == pytest.approx(0.75, abs=0.03)
    assert np.median(durations) == pytest.approx(9.0, rel=0.05)
    assert {build.failure for build in builds} == {None, BuildFailure.OUT_OF_MEMORY}


def test_unknown_fault_and_action_are_named() -> None:
    simulator = BuildSimulator([measured(0, 1.0), measured(1, 1.0)])
    generator = np.random.default_rng(0)

    with pytest.raises(UnmeasuredFaultError, match="'disk' was not measured"):
        simulator.build("disk", 0, generator)
    with pytest.raises(UnknownBuildActionError, match="action 7 was not measured"):
        simulator.build("memory", 7, generator)


def test_shipped_measurements_show_each_failure_and_its_remedy(fit: list[FitRow]) -> None:
    simulator = shipped_simulator()
    share = {(row.fault, row.action_id): row.success_share for row in fit}

    assert {action for fault in simulator.faults for action in simulator.actions(fault)} <= set(CATALOGUE)
    assert share["memory", 0] == 0
    assert share["memory", 2] == 1
    assert share["timeout", 0] == 0
    assert share["timeout", 4] == 1
    assert {action: share["dependency", action] for action in simulator.actions("dependency")} == dict.fromkeys(
        simulator.actions("dependency"), 0
    )


def test_shipped_simulator_fits_its_measurements(fit: list[FitRow]) -> None:
    simulator = shipped_simulator()
    for row in fit:
        assert row.simulated_success_share == pytest.approx(row.success_share, abs=0.04)
        # For an even count, every value between the two middle ones is a median.
        durations = sorted(build.duration_s for build in simulator._measured[row.fault, row.action_id])
        low, high = durations[(row.count - 1) // 2], durations[row.count // 2]
        assert 0.8 * low < row.simulated_median_s < 1.25 * high
