"""The simulated project: a policy sees only the features that the real controller would see."""

from __future__ import annotations

import numpy as np

from relab.builds.models import BuildFailure, BuildStatus
from relab.builds.monitor.simulator import BuildSimulator, MeasuredBuildRow, shipped_simulator
from relab.builds.optimizer.catalogue import KEEP
from relab.builds.training.project import SimulatedProject


def row(fault: str, action_id: int, status: BuildStatus) -> MeasuredBuildRow:
    return MeasuredBuildRow(
        fault=fault,
        action_id=action_id,
        status=status,
        failure=None if status is BuildStatus.SUCCESS else "exit_code",
        error=None,
        duration_s=1.0,
        peak_memory_mb=1.0,
    )


def test_project_is_flaky_only_after_one_input_had_two_outcomes_with_the_same_configuration() -> None:
    outcomes = (BuildStatus.SUCCESS, BuildStatus.FAILED)
    simulator = BuildSimulator([row("flaky", action, status) for action in (KEEP, 1) for status in outcomes])
    project = SimulatedProject(simulator, np.random.default_rng(1))

    seen = []
    for _ in range(20):
        project.next_input()
        seen.append(project.situation.was_flaky)
        before = project.situation.failure
        project.apply(KEEP)
        if (project.situation.failure is None) != (before is None):
            break

    assert not any(seen)
    assert project.situation.was_flaky
    assert project.next_input().was_flaky


def test_a_cached_build_with_another_outcome_does_not_make_a_project_flaky() -> None:
    simulator = BuildSimulator([row("memory", KEEP, BuildStatus.FAILED), row("memory", 1, BuildStatus.SUCCESS)])
    project = SimulatedProject(simulator, np.random.default_rng(1))

    for _ in range(10):
        project.next_input()
        project.apply(1)
        assert not project.situation.was_flaky


def test_failed_attempts_count_the_builds_of_one_input() -> None:
    rows = [row("memory", action, BuildStatus.FAILED) for action in (KEEP, 1)]
    simulator = BuildSimulator([*rows, row("memory", 2, BuildStatus.SUCCESS)])
    project = SimulatedProject(simulator, np.random.default_rng(1))

    assert project.next_input().failed_attempts == 1
    project.apply(1)
    assert project.situation.failed_attempts == 2
    assert project.situation.cache
    assert project.next_input().failed_attempts == 1
    assert not project.situation.cache


def test_actions_are_those_that_may_help_after_the_last_build() -> None:
    rows = [
        row("memory", KEEP, BuildStatus.FAILED),
        *(row("memory", action, BuildStatus.SUCCESS) for action in (2, 3, 8)),
    ]
    failed = SimulatedProject(BuildSimulator(rows), np.random.default_rng(1))
    timed_out = rows[0].model_copy(update={"failure": BuildFailure.TIMED_OUT})
    slow = SimulatedProject(BuildSimulator([timed_out, *rows[1:]]), np.random.default_rng(1))

    failed.next_input()
    slow.next_input()

    assert failed.actions == [KEEP, 2]
    assert slow.actions == [KEEP, 2, 3, 8]


def test_same_seed_gives_the_same_builds() -> None:
    played = []
    for _ in range(2):
        project = SimulatedProject(shipped_simulator(), np.random.default_rng(5))
        played.append([(project.next_input(), project.apply(project.actions[-1])) for _ in range(50)])

    assert played[0] == played[1]


def test_inputs_do_not_depend_on_actions_if_chosen_builds_have_their_own_generator() -> None:
    played = []
    for choice in (0, -1):
        project = SimulatedProject(shipped_simulator(), *np.random.default_rng(5).spawn(2))
        inputs = []
        for _ in range(50):
            first = project.next_input()
            inputs.append((project.fault, first.failure))
            project.apply(project.actions[choice])
        played.append(inputs)

    assert played[0] == played[1]
