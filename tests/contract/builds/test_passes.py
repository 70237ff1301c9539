"""Build passes: a failed build is retried with the policy's action within a budget, and decisions get rewards."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from threading import Event

import pytest

from relab.bootstrap import Services
from relab.builds import controller
from relab.builds.errors import PolicyModelMissingError, UnknownBuildActionError, UnknownPolicyError
from relab.builds.models import BuildStatus
from relab.builds.monitor.build_file import BuildProject, override, read_project
from relab.builds.service import BuildService
from relab.builds.suggestions.models import PastFixKind
from support.builds.projects import write_project

NEEDS_CACHE = 'if [ -n "$CACHE" ]; then exit 0; fi; echo "error: it needs the cache"; exit 1\n'


@pytest.fixture
def builds(make_services: Callable[..., Services]) -> BuildService:
    return make_services().builds


def project_of(folder: Path, script: str) -> BuildProject:
    return write_project(folder / "project", script, sandbox="local")


def test_failed_build_is_built_again_with_the_chosen_action(builds: BuildService, tmp_path: Path) -> None:
    project = project_of(tmp_path, NEEDS_CACHE)

    done = builds.run(project, override(project.file.defaults, {"retries": "1"}), stop=Event(), policy="fixed:1")

    assert [build.result.status for build in done.builds] == [BuildStatus.FAILED, BuildStatus.SUCCESS]
    assert [build.configuration.cache for build in done.builds] == [False, True]
    (decision,) = builds.decisions.list_decisions().items
    assert decision == done.decisions[0]
    assert decision.action_id == 1
    assert decision.build_id == done.builds[1].build_id
    assert decision.reward is not None
    assert decision.reward > 0.9
    assert not done.is_flaky


@pytest.mark.parametrize("stop_at", ["on_build", "on_decision"])
def test_pass_that_is_stopped_after_a_failed_build_starts_no_retry(
    builds: BuildService, tmp_path: Path, stop_at: str
) -> None:
    project = project_of(tmp_path, NEEDS_CACHE)
    stop = Event()
    on_event: dict[str, Callable[[object], None]] = {stop_at: lambda _event: stop.set()}

    done = builds.run(
        project, override(project.file.defaults, {"retries": "1"}), stop=stop, policy="fixed:1", **on_event
    )

    assert [build.result.status for build in done.builds] == [BuildStatus.FAILED]
    assert builds.list_builds().items == done.builds
    assert done.is_stopped
    assert done.fix is None
    assert len(done.decisions) == (1 if stop_at == "on_decision" else 0)
    assert [decision.reward for decision in done.decisions] == [None for _ in done.decisions]


def test_pass_that_is_stopped_after_its_last_build_is_complete(builds: BuildService, tmp_path: Path) -> None:
    project = project_of(tmp_path, NEEDS_CACHE)
    stop = Event()

    done = builds.run(project, project.file.defaults, stop=stop, on_build=lambda _build: stop.set())

    assert not done.is_stopped
    assert done.fix is not None


def test_failing_test_is_not_left_out_by_a_retry(builds: BuildService, tmp_path: Path) -> None:
    script = 'if [ "$TESTS" = fast ]; then exit 0; fi; echo "FAIL: test_total"; exit 1\n'
    selections = 'fast: {environment: {TESTS: "fast"}}'
    project = write_project(tmp_path / "project", script, sandbox="local", selections=selections)

    done = builds.run(project, override(project.file.defaults, {"retries": "2"}), stop=Event(), policy="fixed:8")

    assert {build.result.status for build in done.builds} == {BuildStatus.FAILED}
    assert [8 in decision.actions for decision in done.decisions] == [False, False]
    assert done.replaced_tests is None


def test_actions_without_an_effect_on_the_project_are_not_offered(builds: BuildService, tmp_path: Path) -> None:
    (tmp_path / "project").mkdir()
    (tmp_path / "project" / "build.yaml").write_text(
        "name: plain\ncommand: [/bin/false]\nsandbox: local\ndefaults: {retries: 1}\nlimits: {parallelism: 4, memory_mb: 4096}\n"
    )
    project = read_project(tmp_path / "project")

    done = builds.run(project, project.file.defaults, stop=Event())

    assert done.decisions[0].actions == (0, 2, 6)


def test_slow_tests_may_be_left_out_after_a_timeout(builds: BuildService, tmp_path: Path) -> None:
    script = 'if [ "$TESTS" = fast ]; then exit 0; fi; while :; do sleep 1; done\n'
    selections = 'fast: {environment: {TESTS: "fast"}}'
    project = write_project(tmp_path / "project", script, sandbox="local", selections=selections)
    knobs = {"retries": "1", "time_limit_s": "3"}

    done = builds.run(project, override(project.file.defaults, knobs), stop=Event(), policy="fixed:8")

    assert done.builds[-1].result.status is BuildStatus.SUCCESS
    assert done.replaced_tests == ("all", "fast")


def test_decision_says_why_its_action_was_chosen(builds: BuildService, tmp_path: Path) -> None:
    project = project_of(tmp_path, NEEDS_CACHE)
    once = override(project.file.defaults, {"retries": "1"})

    reasons = [
        builds.run(project, once, stop=Event(), policy="fixed:1").decisions[0].reason,
        builds.run(project, once, stop=Event(), policy="fixed:1").decisions[0].reason,
    ]

    assert reasons == [
        "the policy prefers it (probability 1.000); it is untried after a failure of this kind",
        "the policy prefers it (probability 1.000); after a failure of this kind it succeeded in 1 of 1 builds",
    ]


def test_measured_error_that_the_log_does_not_name_decides_the_suggestion(builds: BuildService, tmp_path: Path) -> None:
    project = project_of(tmp_path, "while :; do sleep 1; done\n")

    done = builds.run(project, override(project.file.defaults, {"time_limit_s": "0.2"}), stop=Event())

    assert done.fix is not None
    assert [quote.text for quote in done.fix.quotes] == ["The build took longer than its time limit of 0.2 s"]


def test_failed_pass_is_compared_with_the_last_build_that_passed(builds: BuildService, tmp_path: Path) -> None:
    marker = tmp_path / "marker"
    project = project_of(tmp_path, f"echo 'error: No space left on device'; [ -e {marker} ] || touch {marker}\n")
    passed = builds.run(project, project.file.defaults, stop=Event())
    project = project_of(tmp_path, "echo 'error: No space left on device'; echo 'error: odd'; exit 1\n")

    failed = builds.run(project, project.file.defaults, stop=Event())

    assert passed.fix is None
    assert failed.fix is not None
    assert [quote.text for quote in failed.fix.quotes] == ["error: odd"]


def test_later_pass_with_the_same_failure_names_the_builds_and_configuration_that_succeeded(
    builds: BuildService, tmp_path: Path
) -> None:
    project = project_of(tmp_path, NEEDS_CACHE)
    first = builds.run(project, override(project.file.defaults, {"retries": "1"}), stop=Event(), policy="fixed:1")

    again = builds.run(project, project.file.defaults, stop=Event())
    with_cache = builds.run(
        project_of(tmp_path, 'echo "error: it needs the cache"; exit 1\n'),
        override(project.file.defaults, {"cache": "on"}),
        stop=Event(),
    )
    other = builds.run(project_of(tmp_path, "echo 'error: another one'; exit 1\n"), project.file.defaults, stop=Event())

    assert again.fix is not None
    assert not again.fix.is_known
    (fix,) = again.fix.past_fixes
    assert fix.changes == {"cache": "on"}
    assert (fix.failed_build, fix.succeeded_build) == (first.builds[0].build_id, first.builds[1].build_id)
    assert f"succeeded with cache=on (build {first.builds[1].build_id})" in again.fix.suggestion
    (stored,) = [
        each for each in builds.suggestions.list_suggestions().items if each.build_id == again.builds[0].build_id
    ]
    assert stored.suggestion_id == again.fix.suggestion_id
    assert with_cache.fix is not None
    assert with_cache.fix.past_fixes == ()
    assert other.fix is not None
    assert other.fix.past_fixes == ()


def test_success_of_an_unchanged_retry_is_shown_as_flakiness_and_not_as_a_past_fix(
    builds: BuildService, tmp_path: Path
) -> None:
    marker = tmp_path / "marker"
    script = (
        f"if [ -e {marker} ]; then rm {marker}; exit 0; fi; touch {marker}; echo 'error: connection lost'; exit 1\n"
    )
    project = project_of(tmp_path, script)
    first = builds.run(project, override(project.file.defaults, {"retries": "1"}), stop=Event(), policy="fixed")

    again = builds.run(project, project.file.defaults, stop=Event())

    assert first.is_flaky
    assert again.fix is not None
    (seen,) = again.fix.past_fixes
    assert seen.kind is PastFixKind.FLAKY
    assert seen.changes == {}
    assert "a sign of a flaky build, not of a fix" in again.fix.suggestion


def test_budget_limits_the_builds_of_a_broken_project(builds: BuildService, tmp_path: Path) -> None:
    project = project_of(tmp_path, "exit 1\n")

    done = builds.run(project, override(project.file.defaults, {"retries": "3"}), stop=Event())

    assert len(done.builds) == 4
    assert [decision.reward for decision in done.decisions] == [0.0, 0.0, 0.0]
    assert [decision.situation.failed_attempts for decision in done.decisions] == [1, 2, 3]
    assert not done.is_flaky


def test_without_budget_nothing_is_decided(builds: BuildService, tmp_path: Path) -> None:
    project = project_of(tmp_path, "exit 1\n")

    done = builds.run(project, project.file.defaults, stop=Event())

    assert len(done.builds) == 1
    assert builds.decisions.list_decisions().items == []


def test_same_input_with_two_outcomes_is_flaky_also_in_the_situation_of_the_next_pass(
    builds: BuildService, tmp_path: Path
) -> None:
    # The marker is outside of the copied project, so the input of the build does not change.
    marker = tmp_path / "marker"
    project = project_of(tmp_path, f"if [ -e {marker} ]; then rm {marker}; exit 0; fi; touch {marker}; exit 1\n")
    configuration = override(project.file.defaults, {"retries": "1"})

    first = builds.run(project, configuration, stop=Event(), policy="fixed")
    second = builds.run(project, configuration, stop=Event(), policy="fixed")

    assert first.is_flaky
    assert not first.decisions[0].situation.was_flaky
    assert second.decisions[0].situation.was_flaky


def test_same_input_with_two_outcomes_is_flaky_although_the_budget_of_retries_differs(
    builds: BuildService, tmp_path: Path
) -> None:
    marker = tmp_path / "marker"
    project = project_of(tmp_path, f"if [ -e {marker} ]; then exit 1; fi; touch {marker}; exit 0\n")
    builds.run(project, project.file.defaults, stop=Event())

    failed = builds.run(project, override(project.file.defaults, {"retries": "1"}), stop=Event(), policy="fixed")

    assert not failed.is_flaky
    assert failed.decisions[0].situation.was_flaky


def test_optimizer_learns_which_action_mends_the_builds_of_a_project(
    builds: BuildService, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The durations of such short builds vary so much on a busy machine that another action may seem better.
    monkeypatch.setattr(controller, "reward_of", lambda result, _: float(result.status is BuildStatus.SUCCESS))
    project = project_of(tmp_path, NEEDS_CACHE)
    configuration = override(project.file.defaults, {"retries": "3"})

    for _ in range(6):
        builds.run(project, configuration, stop=Event())
    last = builds.run(project, configuration, stop=Event()).decisions[0]

    assert last.propensities[last.actions.index(1)] > 0.9


@pytest.mark.parametrize(
    ("policy", "error"),
    [("dqn", PolicyModelMissingError), ("magic", UnknownPolicyError), ("fixed:99", UnknownBuildActionError)],
)
def test_unknown_policy_is_rejected_before_the_build(
    builds: BuildService, tmp_path: Path, policy: str, error: type[Exception]
) -> None:
    project = project_of(tmp_path, "exit 0\n")

    with pytest.raises(error):
        builds.run(project, project.file.defaults, stop=Event(), policy=policy)

    assert builds.list_builds().items == []
