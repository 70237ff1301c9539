"""Use cases of builds: run, list and show builds, choose an action, evaluate policies."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from threading import Event
from typing import TYPE_CHECKING

from relab.builds.advice.service import (
    StoredSuggestion,
    SuggestionPage,
    SuggestionService,
    SuggestionState,
    VerdictRequest,
)
from relab.builds.failure_groups import FailureGroup, FailureGroupPage, FailureGroups, FailureRecurrence
from relab.builds.flakiness import HistoryStatus
from relab.builds.history import BuildHistory, HistoryEvidence, JudgedTest, JudgedTestPage
from relab.builds.models import (
    SIMULATED_ACTION_IDS,
    Build,
    BuildConfiguration,
    BuildFailure,
    BuildPage,
    BuildResult,
    BuildStatus,
    BuildTestCounts,
    SimulatedBuild,
    SimulationRequest,
    agent_run_id,
)
from relab.builds.monitor.build_file import BuildProject, override, read_project
from relab.builds.optimizer.catalogue import DEFAULT_POLICY, KEEP, action_of
from relab.builds.optimizer.decisions import BestAction, BuildDecision, BuildSymptoms, DecisionOutcome, DecisionPage
from relab.builds.retention import BuildRetention, PrunedBuilds
from relab.builds.suggestions.models import FixSuggestion, KnownFailure, SuggestionRequest
from relab.builds.totals import METRICS
from relab.builds.watching import WatchPlan
from relab.core.clock import Clock
from relab.storage import Database, counters
from relab.storage.counters import StoredSeries

if TYPE_CHECKING:
    from relab.builds.advice.advisor import BuildAdvisor
    from relab.builds.controller import BuildPass as BuildPass  # noqa: PLC0414 exported for annotations
    from relab.builds.monitor.kept import KeptFolders
    from relab.builds.monitor.simulator import FitRow
    from relab.builds.optimizer.evaluation import PolicyEvaluation as PolicyEvaluation  # noqa: PLC0414 as above
    from relab.core.errors import RelabError
    from relab.telemetry.service import TelemetryService

__all__ = [
    "DEFAULT_POLICY",
    "BestAction",
    "Build",
    "BuildConfiguration",
    "BuildDecision",
    "BuildFailure",
    "BuildPage",
    "BuildProject",
    "BuildResult",
    "BuildService",
    "BuildStatus",
    "BuildSymptoms",
    "BuildTestCounts",
    "DecisionOutcome",
    "DecisionPage",
    "FailureGroup",
    "FailureGroupPage",
    "FailureRecurrence",
    "FixSuggestion",
    "HistoryEvidence",
    "HistoryStatus",
    "JudgedTest",
    "JudgedTestPage",
    "PrunedBuilds",
    "SimulatedBuild",
    "SimulationRequest",
    "StoredSuggestion",
    "SuggestionPage",
    "SuggestionRequest",
    "SuggestionState",
    "VerdictRequest",
    "WatchPlan",
    "action_of",
    "agent_run_id",
    "override",
    "read_project",
]


class BuildService:
    """Runs, lists and explains the builds of this installation.

    Args:
        database, clock: the database and the clock of this process.
        telemetry: stores each pass (a build and its retries) as an agent run.
        home: the folder that contains the workspaces, caches and snapshots of all projects.
        taught: the folder of known failures (kinds of failures, with fixes) that people have added; it may not exist.
        environment: the environment variables of this process; builds get PATH from them.
        models: the folder of trained policies.
        max_kept_bytes: the disk space that workspaces, caches and snapshots may use.

    Attributes:
        ingest: records builds that relab did not run.
        decisions: chooses actions, stores their outcomes, and evaluates policies.
        history: decides whether tests are flaky, broken or stable, by earlier builds.
        groups: reads the groups of builds that failed for the same cause.
        retention: deletes old builds, decisions and suggestions.
        suggestions: lists suggestions, and stores verdicts about them.
    """

    def __init__(
        self,
        database: Database,
        clock: Clock,
        telemetry: TelemetryService,
        *,
        home: Path,
        environment: Mapping[str, str],
        models: Path,
        taught: Path,
        max_kept_bytes: int,
    ) -> None:
        # The server imports this module for its models.
        from relab.builds.deciding import BuildDecisions
        from relab.builds.ingest.service import BuildIngest
        from relab.builds.store import BuildStore

        self._clock = clock
        self._telemetry = telemetry
        self._home = home
        self._taught = taught
        self._environment = environment
        self._database = database
        self._store = BuildStore(database)
        self.ingest = BuildIngest(self._store, clock, taught)
        self.decisions = BuildDecisions(database, clock, models)
        self._max_kept_bytes = max_kept_bytes
        self.retention = BuildRetention(database)
        self.history = BuildHistory(database)
        self.groups = FailureGroups(database)
        self.suggestions = SuggestionService(database, clock)

    @property
    def kept(self) -> KeptFolders:
        """The kept folders: workspaces, caches and snapshots that stay on this machine for later builds."""
        from relab.builds.monitor.kept import KeptFolders

        return KeptFolders(self._home, self._max_kept_bytes)

    def run(
        self,
        project: BuildProject,
        configuration: BuildConfiguration,
        *,
        stop: Event,
        policy: str = DEFAULT_POLICY,
        on_build: Callable[[Build], None] = lambda _build: None,
        on_decision: Callable[[BuildDecision], None] = lambda _decision: None,
        on_suggestion: Callable[[FixSuggestion], None] = lambda _suggestion: None,
    ) -> BuildPass:
        """Build a project; while it fails, build it again with the optimizer's choice, at most `retries` times.

        Args:
            project: the project.
            configuration: the configuration of the first build.
            stop: ends the running build when set; a build that starts later is ended at once.
            policy: the name of the policy (rule that chooses build actions); `fixed` builds again without a change.
            on_build: called with each finished build.
            on_decision: called with each decision.
            on_suggestion: called with the suggestion of a fix if the last build failed.

        Raises:
            BuildConfigurationError: the configuration is not possible for this project.
            UnknownPolicyError, UnknownBuildActionError: the policy is unknown.
            PolicyModelMissingError, PolicyModelError, RlExtraMissingError: the policy is `dqn`, and cannot be used.
            ProjectBusyError: another process builds the project.
            BuildSandboxError: the sandbox that the build file requires does not work here.
            BuildFolderError: a file of the build cannot be written.
            KnownFailuresInvalidError: a file of known failures that people have added is invalid.
        """
        from relab.builds.agent_run import send_to_telemetry
        from relab.builds.controller import BuildController, PassEvents
        from relab.builds.monitor.recording import locked_builds
        from relab.builds.optimizer.policies.registry import make_policy

        project.file.check(configuration)
        make_policy(policy, self.decisions.models())
        with locked_builds(
            project,
            home=self._home,
            kept=self.kept,
            store=self._store,
            clock=self._clock,
            environment=self._environment,
        ) as builds:
            controller = BuildController(builds, self._store, self.decisions.optimizer(), policy, self._advisor())
            events = PassEvents(
                on_build,
                on_decision,
                on_suggestion,
                lambda done: send_to_telemetry(self._telemetry, done, self._store.log),
            )
            return controller.run(configuration, stop=stop, events=events)

    def watch(
        self,
        folder: Path,
        knobs: Mapping[str, str],
        plan: WatchPlan,
        *,
        stop: Event,
        policy_of: Callable[[str], str] = lambda _project: DEFAULT_POLICY,
        on_build: Callable[[Build], None] = lambda _build: None,
        on_decision: Callable[[BuildDecision], None] = lambda _decision: None,
        on_suggestion: Callable[[FixSuggestion], None] = lambda _suggestion: None,
        on_pass: Callable[[BuildPass], None] = lambda _done: None,
        on_error: Callable[[RelabError], None] = lambda _error: None,
    ) -> None:
        """Run one pass (a build and its retries) over a project per interval until the plan ends or `stop` is set.

        Each pass reads the project anew.

        Args:
            folder: the folder of the project.
            knobs: the settings that differ from the defaults of the build file: `{knob: value as text}`.
            plan: when passes start, how many there are, and their budget of retries.
            stop: ends the running build and the watch when set.
            policy_of: returns the name of a project's policy (rule that chooses build actions); called for each pass.
            on_build: called with each finished build.
            on_decision: called with each decision.
            on_suggestion: called with the suggestion of a fix after a pass that failed.
            on_pass: called with each finished pass.
            on_error: called with the error that ended a pass, or that `on_pass` raised; the next pass starts even so.
        """
        from relab.builds.watching import RetryBudget, WatchEvents, watch

        # The working directory may be removed and created anew, and a relative path would not lead to the new one.
        folder = folder.absolute()

        def build_once(budget: RetryBudget) -> BuildPass:
            def decided(decision: BuildDecision) -> None:
                # A retry follows each decision. It counts also if the pass then ends with an error.
                budget.use()
                on_decision(decision)

            project = read_project(folder)
            wanted = override(project.file.defaults, knobs)
            limited = wanted.model_copy(update={"retries": min(wanted.retries, budget.left)})
            return self.run(
                project,
                limited,
                stop=stop,
                policy=policy_of(project.file.name),
                on_build=on_build,
                on_decision=decided,
                on_suggestion=on_suggestion,
            )

        watch(build_once, plan, stop=stop, events=WatchEvents(on_pass, on_error))

    def suggest_fix(self, failed: SuggestionRequest) -> FixSuggestion:
        """Find a fix for a failed build in its log; store the suggestion, and return it.

        If no known failure matches the log, the suggestion says so.

        Raises:
            KnownFailuresInvalidError: a file of known failures (kinds of failures, with fixes) that people have added
                to this installation is invalid.
        """
        return self._advisor().suggest(failed)

    def known_failures(self) -> tuple[KnownFailure, ...]:
        """Return the known failures (kinds of failures, with fixes): those of relab, and those that people have added.

        Raises:
            KnownFailuresInvalidError: a file that people have added is invalid.
        """
        from relab.builds.suggestions.service import known_failures

        return known_failures(self._taught)

    @staticmethod
    def simulate(request: SimulationRequest) -> SimulatedBuild:
        """Return one simulated build, drawn from the measured builds of the example project; nothing is stored.

        Raises:
            UnmeasuredFaultError: no build with the fault in the request was measured.
            UnknownBuildActionError: the catalogue has no such action.
        """
        import numpy as np

        from relab.builds.monitor.simulator import shipped_simulator

        simulator = shipped_simulator()
        generator = np.random.default_rng(request.seed)
        fault = request.fault or simulator.faults[int(generator.integers(len(simulator.faults)))]
        # The other actions change nothing in the default configuration of the example, so they were not measured.
        is_measured = action_of(request.action_id).action_id in SIMULATED_ACTION_IDS
        result = simulator.build(fault, request.action_id if is_measured else KEEP, generator)
        return SimulatedBuild(
            status=result.status,
            duration=round(result.duration_s or 0.0, 2),
            error=result.error,
            failure=result.failure,
            peak_memory_mb=result.peak_memory_mb,
            fault=fault,
            action_id=request.action_id,
        )

    @staticmethod
    def simulator_fit() -> list[FitRow]:
        """Compare the measured builds of the example project with simulated builds, for each fault and action."""
        from relab.builds.monitor.simulator import shipped_simulator

        return shipped_simulator().fit()

    def get(self, build_id: str) -> Build:
        """Return a build.

        If the build was running and its process on this machine has died, its status is `interrupted`.

        Raises:
            BuildNotFoundError: no build has this id.
        """
        self._end_abandoned()
        return self._store.get(build_id)

    def log(self, build_id: str) -> str | None:
        """Return the log of a build, shortened to about 1 MiB; None if no log is stored.

        No log is stored while the build runs, or if its process died.

        Raises:
            BuildNotFoundError: no build has this id.
        """
        self._store.get(build_id)
        return self._store.log(build_id)

    def list_builds(
        self,
        *,
        project: str | None = None,
        status: BuildStatus | None = None,
        before: str | None = None,
        limit: int = 50,
    ) -> BuildPage:
        """Return a page of at most `limit` builds, newest first.

        If the process of a running build has died, the build is returned with the status `interrupted`.

        Args:
            project: only builds of the project with this name.
            status: only builds with this status.
            before: only builds whose ids are lower than this id; None to begin with the newest.
            limit: the largest number of builds.
        """
        self._end_abandoned()
        items = self._store.list_builds(project=project, status=status, before=before, limit=limit + 1)
        return BuildPage(items=items[:limit], next_before=items[limit - 1].build_id if len(items) > limit else None)

    def check_project(self, project: str) -> None:
        """Check that a build, a decision or a suggestion is stored for a project.

        Raises:
            BuildProjectNotFoundError: nothing is stored; the error names other projects.
        """
        self._store.check_project(project)

    def running(self) -> int:
        """Return the number of running builds."""
        self._end_abandoned()
        return self._store.running()

    def totals(self) -> list[StoredSeries]:
        """Return the metrics of builds and of the optimizer's decisions, such as the number of ended builds.

        All processes add to these counters in the database. Deleting old builds does not change them.
        """
        with self._database.read() as session:
            return counters.read(session, METRICS)

    def _end_abandoned(self) -> None:
        if running := self._store.running_folders():
            from relab.builds.monitor.abandoned import end_all_abandoned

            end_all_abandoned(self._home, self._store, running)

    def _advisor(self) -> BuildAdvisor:
        from relab.builds.advice.advisor import BuildAdvisor

        return BuildAdvisor(self._database, self._clock, self.known_failures())
