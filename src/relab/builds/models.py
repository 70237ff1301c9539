"""The data classes of builds: configurations, results, records, and simulated builds."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Annotated, Final

from pydantic import BaseModel, ConfigDict, Field

from relab.core.clock import Timestamp

MAX_TESTS_LENGTH: Final = 100
ACTION_IDS: Final = tuple(range(9))
"""The ids of the actions of the catalogue, for the description of requests."""
SIMULATED_ACTION_IDS: Final = (0, 1, 2, 3, 4, 6, 8)
"""The ids of the actions whose effect on each fault was measured; the others change nothing in the default configuration."""
SIMULATED_FAULTS: Final = ("none", "memory", "dependency", "timeout", "pull", "flaky")
"""The names of the faults that can be simulated, for the description of requests."""


class BuildStatus(StrEnum):
    """The state of a build; `interrupted` means that it was stopped or cancelled, or that its process has died.

    `unknown` is the status of a recorded build whose log does not say how it ended.
    """

    RUNNING = "running"
    SUCCESS = "success"
    FAILED = "failed"
    INTERRUPTED = "interrupted"
    UNKNOWN = "unknown"


class BuildFailure(StrEnum):
    """The way in which a build failed, as relab measured it: the limit that it hit, or how its command ended.

    `not_started` means that the command could not be started.
    """

    OUT_OF_MEMORY = "out_of_memory"
    TIMED_OUT = "timed_out"
    EXIT_CODE = "exit_code"
    SIGNAL = "signal"
    PROCESS_LIMIT = "process_limit"
    OPEN_FILES_LIMIT = "open_files_limit"
    LOG_LIMIT = "log_limit"
    DISK_LIMIT = "disk_limit"
    NOT_STARTED = "not_started"

    @property
    def is_in_log(self) -> bool:
        """Whether the log may show why the build failed.

        True if the build's command failed (exit code or signal). False if the build exceeded a limit or did not start.
        """
        return self in {BuildFailure.EXIT_CODE, BuildFailure.SIGNAL}


class BuildConfiguration(BaseModel):
    """The settings (knobs) of one build, with their values.

    Attributes:
        cache: whether the cache folder keeps its content between builds. If false, each build gets an empty folder.
        parallelism: the number of jobs that the build may run at once.
        memory_mb: the memory limit of all processes of the build together, in MB.
        time_limit_s: the time limit of one attempt, in seconds.
        retries: the number of further builds after a failure.
        incremental: whether the build starts in the workspace of the last build, updated with the project's current
            files.
        tests: the name of a test selection in the build file.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)

    cache: bool = False
    parallelism: Annotated[int, Field(ge=1, le=1_024)] = 1
    memory_mb: Annotated[int, Field(ge=16, le=1_048_576)] = 2_048
    time_limit_s: Annotated[float, Field(ge=0.1, le=86_400)] = 1_800.0
    retries: Annotated[int, Field(ge=0, le=10)] = 0
    incremental: bool = False
    tests: Annotated[str, Field(min_length=1, max_length=MAX_TESTS_LENGTH)] = "all"

    def values(self) -> dict[str, str]:
        """Return `{knob (setting of a build): value}`, with each value as text, as build files write it.

        The text is `on` or `off`, a number, or the name of a test selection.
        """
        return {name: _text(value) for name, value in self}

    def __str__(self) -> str:
        return " ".join(f"{name}={value}" for name, value in self.values().items())


KNOBS: Final = tuple(BuildConfiguration.model_fields)
"""The names of the knobs."""


class BuildResult(BaseModel):
    """The outcome of one build.

    Attributes:
        status: `success`, `failed`, `interrupted` or `unknown`; `running` until the build ends.
        failure: the kind of the failure, as relab measured it; None if the build did not fail, or if relab did not run
            it.
        error: one sentence about the failure; None if the build did not fail.
        exit_code: the exit code of the command, negative for a signal that ended it; None if the command did not start.
        duration_s: the seconds from the start of the command to its end; None if unknown.
        peak_memory_mb: the highest measured memory of all processes together, in MB; None if unknown. Memory is
            sampled, so a short peak may be missed. If the build ran out of memory, the value is at least the memory
            limit.
        log_bytes: the size of the whole log in bytes; the stored log may be shortened.
    """

    model_config = ConfigDict(frozen=True)

    status: BuildStatus
    failure: BuildFailure | None = None
    error: str | None = None
    exit_code: int | None = None
    duration_s: float | None = 0.0
    peak_memory_mb: float | None = 0.0
    log_bytes: int = 0


class BuildOrigin(BaseModel):
    """The facts about a build that relab did not run, from its log or its CI.

    Attributes:
        kind: the source of the record: a CI system such as `github` (`LogFormat.ci`), `log` (any other text), `junit`
            (a JUnit XML file), or `report` (a CI reported the build, but sent no log).
        commit: the commit that was built.
        branch: the branch or tag.
        job: the name of the CI's job.
        url: the address of the build in its CI.
        configuration: settings of the build, with the CI's own names.
    """

    model_config = ConfigDict(frozen=True)

    kind: str
    commit: str | None = None
    branch: str | None = None
    job: str | None = None
    url: str | None = None
    configuration: dict[str, str] = {}


class RecordedLine(BaseModel):
    """A line of a build's log that helps to explain its failure.

    Attributes:
        number: the number of the line in the log, from 1.
        text: the text without escape sequences, at most 300 characters, secrets masked.
        why: the reason why the line was chosen.
    """

    model_config = ConfigDict(frozen=True)

    number: int
    text: str
    why: str


class BuildTestOutcome(StrEnum):
    """How one test of a build ended; `flaky` means that it both failed and passed in repetitions within this build."""

    PASSED = "passed"
    FAILED = "failed"
    SKIPPED = "skipped"
    FLAKY = "flaky"


class BuildTest(BaseModel):
    """The result of one test in one build.

    Attributes:
        name: the whole name, with file, class or package.
        outcome: how the test ended.
        duration_s: the duration in seconds; None if unknown.
        message: the failure message of the test, at most 300 characters; None without a message.
        line: the number of the line that reports the failure, in the log or JUnit XML file; None if unknown.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    name: Annotated[str, Field(min_length=1, max_length=500)]
    outcome: BuildTestOutcome
    duration_s: Annotated[float, Field(ge=0, le=1e9)] | None = None
    message: Annotated[str, Field(max_length=300)] | None = None
    line: Annotated[int, Field(ge=1, le=2**53)] | None = None


class BuildTestCounts(BaseModel):
    """The numbers of tests of a build by outcome.

    Attributes:
        passed, failed, skipped, flaky: how many of the tests that the log or the JUnit XML names had this outcome.
        left_out: how many of the build's test results are not stored: they were not read, or there were too many.
    """

    model_config = ConfigDict(frozen=True)

    passed: int = 0
    failed: int = 0
    skipped: int = 0
    flaky: int = 0
    left_out: int = 0


class Build(BaseModel):
    """The record of one build (one attempt); a retry is a build of its own.

    Attributes:
        build_id: the id of the build.
        project: the name of the project, from its build file, its CI or its log.
        input_digest: identifies the input of the build; None if unknown. If relab ran the build, a digest of the
            project's files and the build file. Otherwise, a digest of three things: the name of the input (such as the
            commit), the CI job and the settings.
        configuration: the settings of the build; None if relab did not run it.
        retry_of: the id of the build that this one retries; None if it is not a retry.
        sandbox: the kind of sandbox, `bwrap` or `local`; None if relab did not run the build.
        sandbox_note: the reason why the build ran without `bwrap`, which isolates it; None if it ran in `bwrap`.
        started_at: when the build started. For a recorded log without times, when it was recorded.
        result: the outcome; its status is `running` until the end.
        origin: where the build comes from; None if relab ran it.
        relevant_lines: at most 20 lines of the log that explain the failure; empty if relab ran the build.
        tests: the numbers of tests by outcome, from the log or JUnit XML; None if it names no test.
        failure_group: the key of the group of builds that failed for the same cause; None if the cause is unknown.
        failure_line: the line that shows the cause, at most 300 characters, secrets masked; None without a group.
    """

    model_config = ConfigDict(frozen=True)

    build_id: str
    project: str
    input_digest: str | None
    configuration: BuildConfiguration | None
    retry_of: str | None = None
    sandbox: str | None
    sandbox_note: str | None = None
    started_at: Timestamp
    result: BuildResult
    origin: BuildOrigin | None = None
    relevant_lines: tuple[RecordedLine, ...] = ()
    tests: BuildTestCounts | None = None
    failure_group: str | None = None
    failure_line: str | None = None


def agent_run_id(build_id: str) -> str:
    """Return the id of the agent run that telemetry stores for a build together with its retries.

    `build_id` is the id of the build, not of a retry.
    """
    return f"build.{build_id}"


class BuildPage(BaseModel):
    """A page of builds, newest first, without their logs.

    `next_before` is the argument `before` of the next page, or None on the last page.
    """

    items: list[Build]
    next_before: str | None = None


class SimulationRequest(BaseModel):
    """A request to simulate a build.

    Attributes:
        fault: the fault of the simulated build, by its name in `examples/build`; None for a random fault.
        action_id: the id of the action (a change of the configuration) whose effect is simulated. 0 keeps the default
            configuration. Actions 5 and 7 have no effect, because the default configuration has their values already:
            one job at a time (5), and a build from clean (7).
        seed: the seed of the simulation; None for a new random seed each time.
    """

    model_config = ConfigDict(extra="forbid")

    # Described in the schema and checked later, where the error names the possible values.
    fault: (
        Annotated[str, Field(min_length=1, max_length=100, json_schema_extra={"enum": list(SIMULATED_FAULTS)})] | None
    ) = None
    action_id: Annotated[int, Field(ge=0, le=1_000_000, json_schema_extra={"enum": list(ACTION_IDS)})] = 0
    seed: Annotated[int, Field(ge=0, le=2**53)] | None = None


class SimulatedBuild(BaseModel):
    """A simulated build.

    Some values are from comparable builds: real builds of `examples/build` with the same fault, action, status and kind
    of failure.

    Attributes:
        status: `success` or `failed`.
        duration: the duration in seconds.
        error: the error of one comparable build; None if the simulated build succeeded.
        failure: the kind of the failure; None if the simulated build succeeded.
        peak_memory_mb: the median memory peak of the comparable builds, in MB.
        fault: the fault that was switched on in the example project to make its builds fail, such as `memory`; `none`
            for no fault.
        action_id: the id of the action (a change of the configuration) whose effect was simulated.
    """

    status: BuildStatus
    duration: float
    error: str | None
    failure: BuildFailure | None
    peak_memory_mb: float
    fault: str
    action_id: int


def _text(value: object) -> str:
    if isinstance(value, bool):
        return "on" if value else "off"
    return f"{value:g}" if isinstance(value, float) else str(value)


@dataclass(frozen=True, slots=True)
class KeptFiles:
    """The amount of files (caches, workspaces, snapshots) that builds have left on this machine for later builds.

    Attributes:
        folders: the number of projects that have kept files now: after a removal, the remaining ones.
        size_bytes: the size of the files of these projects.
        removed_folders: the number of projects whose files were removed. In a preview, which removes nothing: the
            number of projects whose files would be removed.
        removed_bytes: the size of the files of the projects in `removed_folders`.
    """

    folders: int
    size_bytes: int
    removed_folders: int = 0
    removed_bytes: int = 0
