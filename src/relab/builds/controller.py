"""One pass over a project: build it, and retry with a configuration that the optimizer chooses.

A pass ends when a build does not fail, or when the number of retries reaches its limit.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from statistics import median
from threading import Event
from typing import Final

from relab.builds.advice.advisor import BuildAdvisor
from relab.builds.models import Build, BuildConfiguration, BuildStatus
from relab.builds.monitor.recording import ProjectBuilds
from relab.builds.optimizer.catalogue import KEEP, possible_actions, suitable_actions
from relab.builds.optimizer.decisions import BuildDecision
from relab.builds.optimizer.optimizer import BuildOptimizer
from relab.builds.optimizer.situation import BuildSituation, reward_of
from relab.builds.store import BuildStore
from relab.builds.suggestions.service import FixSuggestion

_HISTORY: Final = 200
_FIRST_REFERENCE_S: Final = 60.0


@dataclass
class BuildPass:
    """The result of one pass: a build, and its retries if it failed.

    Attributes:
        builds: the build and its retries, in order; the outcome of the last one is the outcome of the pass.
        decisions: the optimizer's decision before each retry. A decision has a reward after its retry has ended; it has
            none if the retry was interrupted, or did not start because the pass was stopped.
        fix: the suggestion of a fix for the last build; None if the last build did not fail, or the pass was stopped.
        is_stopped: whether the pass was stopped after a failed build, before the retry that was due.
    """

    builds: list[Build] = field(default_factory=list)
    decisions: list[BuildDecision] = field(default_factory=list)
    fix: FixSuggestion | None = None
    is_stopped: bool = False

    @property
    def is_flaky(self) -> bool:
        """Whether a build of this pass succeeded and another one, with equal files and configuration, failed."""
        return had_two_outcomes(self.builds)

    @property
    def replaced_tests(self) -> tuple[str, str] | None:
        """`(test selection of the first build, that of the last build)`; None if the two are equal."""
        first, last = self.builds[0].configuration, self.builds[-1].configuration
        return None if first is None or last is None or first.tests == last.tests else (first.tests, last.tests)


@dataclass(frozen=True, slots=True)
class PassEvents:
    """Functions that are called during a pass (a build and its retries).

    Attributes:
        on_build: called with each finished build.
        on_decision: called with each decision of the optimizer.
        on_suggestion: called with a suggestion of a fix.
        on_end: called with the pass when it ends, also after an error.
    """

    on_build: Callable[[Build], None] = lambda _build: None
    on_decision: Callable[[BuildDecision], None] = lambda _decision: None
    on_suggestion: Callable[[FixSuggestion], None] = lambda _suggestion: None
    on_end: Callable[[BuildPass], None] = lambda _done: None


def had_two_outcomes(builds: Iterable[Build]) -> bool:
    """Return whether one of these builds succeeded and another one, with equal input and configuration, failed.

    A build is ignored if its cache or workspace may have files of earlier builds, if relab did not run the build, or if
    its status is neither `success` nor `failed`. The setting `retries` of the configurations is not compared.
    """
    outcomes: dict[tuple[str | None, BuildConfiguration], set[BuildStatus]] = {}
    for build in builds:
        if build.configuration is None:
            continue
        # Kept files change between builds.
        is_repeatable = not (build.configuration.cache or build.configuration.incremental)
        if is_repeatable and build.result.status in {BuildStatus.SUCCESS, BuildStatus.FAILED}:
            # The budget of retries changes nothing in one build.
            compared = build.configuration.model_copy(update={"retries": 0})
            outcomes.setdefault((build.input_digest, compared), set()).add(build.result.status)
    return any(len(found) > 1 for found in outcomes.values())


class BuildController:
    """Runs passes over one project: each pass is a build and its retries. This process must hold the project's lock.

    Args:
        builds: runs builds of the project.
        store: the stored builds, for the history of the project.
        optimizer: chooses the action (a change of the configuration) before each retry.
        policy: the name of the policy that the optimizer uses.
        advisor: examines failed builds, and suggests fixes.
    """

    def __init__(
        self,
        builds: ProjectBuilds,
        store: BuildStore,
        optimizer: BuildOptimizer,
        policy: str,
        advisor: BuildAdvisor,
    ) -> None:
        self._builds = builds
        self._store = store
        self._optimizer = optimizer
        self._policy = policy
        self._advisor = advisor

    def run(self, configuration: BuildConfiguration, *, stop: Event, events: PassEvents) -> BuildPass:
        """Build the project; while the build fails, build it again with a change that the optimizer chooses.

        The pass ends when a build does not fail, when the number of retries reaches `retries` in the configuration, or
        when `stop` is set.

        Args:
            configuration: the configuration of the first build.
            stop: ends the running build when set, and prevents retries. A first build that starts later is ended at
                once.
            events: the functions to call with each build, decision and suggestion, and at the end with the pass.

        Returns:
            The pass: all builds, with the decision before each retry.

        Raises:
            BuildSandboxError: the sandbox cannot be used.
            BuildFolderError: a file or folder of a build cannot be written.
            UnknownPolicyError: no policy has the name that this controller was given.
            UnknownBuildActionError: the policy is `fixed:ID` (it always chooses one action), and no action has this ID.
            PolicyModelMissingError, PolicyModelError, RlExtraMissingError: the policy is `dqn`, and cannot be used.
        """
        done = BuildPass()
        try:
            self._build(done, configuration, stop, events)
        finally:
            events.on_end(done)
        return done

    def _build(self, done: BuildPass, configuration: BuildConfiguration, stop: Event, events: PassEvents) -> None:
        """Run the builds of a pass (a build and its retries), and add the builds, decisions and suggestion to `done`.

        Args:
            done: the pass.
            configuration: the configuration of the first build.
            stop: ends the running build when set, and prevents retries. A first build that starts later is ended at
                once.
            events: the functions to call with each new build, decision and suggestion.
        """
        history = self._store.list_builds(project=self._builds.project.file.name, limit=_HISTORY)
        reference_s = usual_duration_s(history)
        passed = next((each for each in history if each.result.status is BuildStatus.SUCCESS), None)
        while True:
            retry_of = done.builds[-1].build_id if done.builds else None
            build = self._builds.run(configuration, retry_of=retry_of, stop=stop)
            done.builds.append(build)
            if done.decisions:
                self._observe(done, build, reference_s)
            events.on_build(build)
            if build.result.status is not BuildStatus.FAILED:
                return
            # Each failed build gets a failure key, so that a later failure of the same kind finds this pass.
            examined = self._advisor.examine_build(build, passed)
            if len(done.builds) > configuration.retries:
                done.fix = self._advisor.suggest_for_build(build, examined)
                events.on_suggestion(done.fix)
                return
            if not stop.is_set():
                decision, configuration = self._decide(done, history, build, configuration)
                done.decisions.append(decision)
                events.on_decision(decision)
            if stop.is_set():
                done.is_stopped = True
                return

    def _decide(
        self, done: BuildPass, history: list[Build], build: Build, configuration: BuildConfiguration
    ) -> tuple[BuildDecision, BuildConfiguration]:
        file = self._builds.project.file
        situation = BuildSituation.after(
            build.result.failure,
            configuration,
            failed_attempts=len(done.builds),
            was_flaky=had_two_outcomes([*history, *done.builds]),
        )
        after = possible_actions(configuration, file.largest, tuple(file.test_selections))
        # Leave out actions without effect, such as `cache` if the build file does not use the cache folder.
        different = [number for number, each in after.items() if number == KEEP or file.differ(configuration, each)]
        actions = suitable_actions(different, build.result.failure)
        decision = self._optimizer.decide(situation, actions, project=file.name, policy=self._policy)
        return decision, after[decision.action_id]

    def _observe(self, done: BuildPass, build: Build, reference_s: float) -> None:
        # A build that a person stopped says nothing about the action.
        if build.result.status is not BuildStatus.INTERRUPTED:
            reward = reward_of(build.result, reference_s)
            done.decisions[-1] = self._optimizer.observe(
                done.decisions[-1].decision_id, reward, build_id=build.build_id
            )


def usual_duration_s(history: Iterable[Build]) -> float:
    """Return the median duration, in seconds, of successful builds that relab ran; 60 if `history` has none."""
    successes = (build for build in history if build.result.status is BuildStatus.SUCCESS and build.origin is None)
    durations = [build.result.duration_s for build in successes if build.result.duration_s is not None]
    return max(median(durations), 0.001) if durations else _FIRST_REFERENCE_S
