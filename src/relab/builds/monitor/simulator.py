"""Simulate builds from measured builds. Pure.

An outcome is as probable as it is frequent among the measured builds with the same fault and action. A duration is a
random measured duration times a log-normal factor (smoothed bootstrap). One normal distribution would not fit: with and
without files that earlier builds left, builds take different times, so the measured durations can have two peaks.
"""

from __future__ import annotations

import functools
import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from statistics import median
from typing import Annotated, Final

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

from relab.builds.errors import UnknownBuildActionError, UnmeasuredFaultError
from relab.builds.models import BuildFailure, BuildResult, BuildStatus

_LEAST_BANDWIDTH: Final = 0.02
_BANDWIDTH_SHARE: Final = 0.25
"""The bandwidth, as a share of the standard deviation of the measured durations; small, to keep their distribution."""
_FIT_DRAWS: Final = 2_000


class MeasuredBuildRow(BaseModel):
    """One measured build of the project in `examples/build`.

    Attributes:
        fault: the fault that was switched on in the example project to make its builds fail.
        action_id: the action of the catalogue that was applied to the default configuration.
        status: `success` or `failed`.
        failure: the kind of the failure; None if the build did not fail.
        error: one sentence about the failure; None if the build did not fail.
        duration_s: the duration of the build's command in seconds.
        peak_memory_mb: the highest measured memory of all processes of the build together, in MB.
    """

    model_config = ConfigDict(frozen=True)

    fault: str
    action_id: int
    status: BuildStatus
    failure: BuildFailure | None
    error: str | None
    duration_s: Annotated[float, Field(gt=0)]
    peak_memory_mb: float


@dataclass(frozen=True, slots=True)
class _Outcome:
    """A possible outcome of a simulated build, made from a group of measured builds.

    The builds of the group have the same fault, action, status and kind of failure.

    Attributes:
        result: the result of each simulated build with this outcome, without the duration.
        log_durations: the natural logarithms of the measured durations in seconds. To simulate a duration, the
            simulator draws one of them, and adds a normally distributed random number.
        bandwidth: the standard deviation of this random number.
    """

    result: BuildResult
    log_durations: NDArray[np.float64]
    bandwidth: float


@dataclass(frozen=True, slots=True)
class FitRow:
    """A comparison of measured with simulated builds, for one fault and one action.

    Attributes:
        fault, action_id: the fault and the action.
        count: the number of measured builds.
        success_share: the share of the measured builds that succeeded, 0 to 1.
        simulated_success_share: the share of the simulated builds that succeeded, 0 to 1.
        median_s: the median duration of the measured builds, in seconds.
        simulated_median_s: the median duration of the simulated builds, in seconds.
    """

    fault: str
    action_id: int
    count: int
    success_share: float
    simulated_success_share: float
    median_s: float
    simulated_median_s: float


class BuildSimulator:
    """Simulates builds: their outcomes and durations have the frequencies of measured builds.

    Args:
        builds: the measured builds, at least one.
    """

    def __init__(self, builds: Sequence[MeasuredBuildRow]) -> None:
        cells: dict[tuple[str, int], list[MeasuredBuildRow]] = {}
        for build in builds:
            cells.setdefault((build.fault, build.action_id), []).append(build)
        self._measured = cells
        self._outcomes: Mapping[tuple[str, int], tuple[_Outcome, ...]] = {
            cell: _fit(measured) for cell, measured in cells.items()
        }
        self._cumulative = {cell: _cumulative_shares(outcomes) for cell, outcomes in self._outcomes.items()}
        self.faults: Sequence[str] = tuple(dict.fromkeys(build.fault for build in builds))
        self.reference_s = median(build.duration_s for build in builds if build.status is BuildStatus.SUCCESS)

    def actions(self, fault: str) -> list[int]:
        """Return the ids of the actions (changes of the configuration) that were measured with this fault, ascending.

        Raises:
            UnmeasuredFaultError: no build with this fault was measured.
        """
        found = sorted(action for known, action in self._outcomes if known == fault)
        if not found:
            raise UnmeasuredFaultError(
                f"fault: {fault[:80]!r} was not measured.",
                problems=(("fault", "is unknown"),),
                remedy=f"Use one of {', '.join(self.faults)}.",
            )
        return found

    def build(self, fault: str, action_id: int, generator: np.random.Generator) -> BuildResult:
        """Return the result of one simulated build.

        Args:
            fault: the fault of the simulated build.
            action_id: the id of the action whose effect is simulated; 0 is the default configuration.
            generator: the source of randomness.

        Raises:
            UnmeasuredFaultError: no build with this fault was measured.
            UnknownBuildActionError: no build with this fault and this action was measured.
        """
        outcomes = self._outcomes.get((fault, action_id))
        if outcomes is None:
            known = self.actions(fault)
            raise UnknownBuildActionError(
                f"action_id: the action {action_id} was not measured with the fault {fault!r}.",
                problems=(("action_id", f"{action_id} is unknown"),),
                remedy=f"Use one of {', '.join(map(str, known))}.",
            )
        # What `Generator.choice` draws, with the same random numbers, in a third of its time.
        outcome = outcomes[int(self._cumulative[fault, action_id].searchsorted(generator.random(), side="right"))]
        log_duration = outcome.log_durations[generator.integers(len(outcome.log_durations))]
        duration_s = float(np.exp(generator.normal(log_duration, outcome.bandwidth)))
        return outcome.result.model_copy(update={"duration_s": round(duration_s, 3)})

    def fit(self, seed: int = 0) -> list[FitRow]:
        """Compare simulated builds with the measured builds; return one comparison for each measured case.

        A case is a pair of a fault and an action (a change of the configuration). The measured builds of a case are
        compared with 2,000 simulated builds of the same case. `seed` is the seed of the simulation.
        """
        generator = np.random.default_rng(seed)
        rows = []
        for (fault, action_id), measured in self._measured.items():
            simulated = [self.build(fault, action_id, generator) for _ in range(_FIT_DRAWS)]
            rows.append(
                FitRow(
                    fault,
                    action_id,
                    len(measured),
                    _success_share([build.status for build in measured]),
                    _success_share([build.status for build in simulated]),
                    median(build.duration_s for build in measured),
                    median(build.duration_s or 0.0 for build in simulated),
                )
            )
        return rows


@functools.cache
def shipped_simulator() -> BuildSimulator:
    """Return the simulator that is fitted to the measured builds of `examples/build`."""
    return BuildSimulator([MeasuredBuildRow.model_validate(row) for row in json.loads(_shipped())["builds"]])


@functools.cache
def shipped_digest() -> str:
    """Return the SHA-256, in hexadecimal, of the packaged file of measurements that `shipped_simulator` reads."""
    return hashlib.sha256(_shipped()).hexdigest()


def _shipped() -> bytes:
    return (resources.files("relab.builds.monitor") / "measured_builds.json").read_bytes()


def _fit(measured: Sequence[MeasuredBuildRow]) -> tuple[_Outcome, ...]:
    kinds: dict[tuple[BuildStatus, BuildFailure | None], list[MeasuredBuildRow]] = {}
    for build in measured:
        kinds.setdefault((build.status, build.failure), []).append(build)
    found = []
    for (status, failure), builds in kinds.items():
        logs = np.log([build.duration_s for build in builds])
        deviation = float(logs.std(ddof=1)) if len(builds) > 1 else 0.0
        result = BuildResult(
            status=status,
            failure=failure,
            error=builds[-1].error,
            peak_memory_mb=float(median(build.peak_memory_mb for build in builds)),
        )
        found.append(_Outcome(result, logs, max(_BANDWIDTH_SHARE * deviation, _LEAST_BANDWIDTH)))
    return tuple(found)


def _cumulative_shares(outcomes: Sequence[_Outcome]) -> NDArray[np.float64]:
    counts = np.array([len(outcome.log_durations) for outcome in outcomes], dtype=float)
    shares: NDArray[np.float64] = np.cumsum(counts / counts.sum())
    shares /= shares[-1]
    return shares


def _success_share(statuses: Sequence[BuildStatus]) -> float:
    return sum(status is BuildStatus.SUCCESS for status in statuses) / len(statuses)
