"""Values of builds: configurations, results, records and simulated builds."""

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
    """The limit that a failed build hit, or the way in which its command ended, as relab measured it.

    The kind does not depend on the log. `not_started` means that the command could not be started.
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


class BuildConfiguration(BaseModel):
    """The settings (knobs) of one build, with their values.

    Attributes:
        cache: whether the cache folder keeps its content between builds. If not, each build gets an empty one.
        parallelism: the number of jobs that the build may run at once.
        memory_mb: the memory limit of all processes of the build together, in MB.
        time_limit_s: the time limit of one attempt, in seconds.
        retries: the number of further builds after a failure.
        incremental: whether the build starts in the workspace that the last build left, with the project's current
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
        """Return the value of each knob as the text that build files use: `on` and `off`, or the number or name."""
        return {name: _text(value) for name, value in self}

    def __str__(self) -> str:
        return " ".join(f"{name}={value}" for name, value in self.values().items())


KNOBS: Final = tuple(BuildConfiguration.model_fields)
"""The names of the knobs."""


class BuildResult(BaseModel):
    """The outcome of one build; each retry is a build of its own.

    Attributes:
        status: `success`, `failed`, `interrupted` or `unknown`.
        failure: the kind of the failure, as relab measured it; None if the build did not fail, or if it ran elsewhere.
        error: one sentence about the failure; None if the build did not fail.
        exit_code: the exit code of the command (negative: the signal that ended it); None if the command did not start.
        duration_s: the seconds from the start of the command to its end; None if unknown.
        peak_memory_mb: the highest measured memory of all processes of the build together, in MB. It is sampled, so a
            shorter peak can be missed; for a build that ran out of memory it is at least the limit. None if unknown.
        log_bytes: the size of the whole log, in bytes, before its middle was left out.
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
    """What the log or the CI says about a build that relab did not run.

    Attributes:
        kind: what the record was read from: `github`, `gitlab`, `jenkins`, `travis`, `log` (any other text), `junit` (a
            JUnit XML file), or `report` (a report of a CI without a log).
        commit: the commit that was built, as its log or CI names it.
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
        text: its text without escape sequences, at most 300 characters, secrets masked.
        why: the reason for which it was chosen.
    """

    model_config = ConfigDict(frozen=True)

    number: int
    text: str
    why: str


class BuildTestOutcome(StrEnum):
    """How one test of a build ended; `flaky` means that it was repeated in the same build, and both failed and passed."""

    PASSED = "passed"
    FAILED = "failed"
    SKIPPED = "skipped"
    FLAKY = "flaky"


class BuildTest(BaseModel):
    """The result of one test in one build.

    Attributes:
        name: the whole name, with file, class or package.
        outcome: how it ended.
        duration_s: how long it took, in seconds; None if it is unknown.
        message: the message of its failure, of at most 300 characters; None without one.
        line: the number of the line that reports the failure in the file of the results; None if it is unknown.
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
        passed, failed, skipped, flaky: the numbers of tests whose results are known by name.
        left_out: the number of results that are not stored one by one: those beyond a limit, and results that were not
            read.
    """

    model_config = ConfigDict(frozen=True)

    passed: int = 0
    failed: int = 0
    skipped: int = 0
    flaky: int = 0
    left_out: int = 0


class Build(BaseModel):
    """The record of one build, which is one attempt; a retry is a build of its own.

    Attributes:
        build_id: the id.
        project: the name of the project, from its build file, its CI or its log.
        input_digest: identifies the input of the build. For a build that relab ran, it is a digest of the project's
            files and the build file; for others, a digest of the input's name (such as the commit), the job and the
            settings. Builds with the same digest have the same input. None if unknown.
        configuration: the settings of the build; None if relab did not run it.
        retry_of: the id of the build that this one retries; None if it is not a retry.
        sandbox: the kind of sandbox that the build ran in, `bwrap` or `local`; None if relab did not run it.
        sandbox_note: why the build did not run in the isolating sandbox (`bwrap`); None if it did.
        started_at: when the build started. If relab did not run it and its log has no times, when it was recorded.
        result: the outcome so far; its status is `running` until the end.
        origin: where the build comes from; None if relab ran it.
        relevant_lines: the lines of the log that explain the failure, at most 20; only of builds that relab did not
            run.
        tests: the numbers of tests whose results the log or JUnit XML names; None if it names none.
        failure_group: the key of the group of builds that failed for the same cause; None if nothing in the log shows a
            cause.
        failure_line: the line that shows the cause, of at most 300 characters, secrets masked; None without a group.
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
    """Return the id, in telemetry, of the agent run of a pass (a build and its retries).

    `build_id` is the id of the first build of the pass.
    """
    return f"build.{build_id}"


class BuildPage(BaseModel):
    """A page of builds, newest first, without their logs; `next_before` is the id for the next page, or None."""

    items: list[Build]
    next_before: str | None = None


class SimulationRequest(BaseModel):
    """A request to simulate a build.

    Attributes:
        fault: the fault that the simulated build has, by its name in `examples/build`; None draws one.
        action_id: the id of the action in the catalogue whose effect is simulated. 0 keeps the default configuration, and
            5 and 7 change nothing in it.
        seed: makes the simulation repeatable; None for a new one each time.
    """

    model_config = ConfigDict(extra="forbid")

    # Described in the schema and checked later, where the error names the possible values.
    fault: (
        Annotated[str, Field(min_length=1, max_length=100, json_schema_extra={"enum": list(SIMULATED_FAULTS)})] | None
    ) = None
    action_id: Annotated[int, Field(ge=0, le=1_000_000, json_schema_extra={"enum": list(ACTION_IDS)})] = 0
    seed: Annotated[int, Field(ge=0, le=2**53)] | None = None


class SimulatedBuild(BaseModel):
    """A simulated build. `status`, `duration` and `error` are named as in the JSON output of `lab builds run`.

    Attributes:
        status: `success` or `failed`.
        duration: the duration in seconds.
        error: the error of a measured build with the same outcome; None if the simulated build succeeded.
        failure: the kind of the failure; None if the simulated build succeeded.
        peak_memory_mb: the median memory peak, in MB, of measured builds with the same outcome.
        fault: the simulated fault.
        action_id: the simulated action.
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
    """The files (caches, workspaces, snapshots) that builds keep for later builds, and the result of a removal of them.

    Attributes:
        folders, size_bytes: the number of projects with kept files, and the disk space that these files use; after a
            removal, what is left.
        removed_folders, removed_bytes: the number of projects whose files were removed, and the disk space of these
            files. In a preview of a removal, what would be removed.
    """

    folders: int
    size_bytes: int
    removed_folders: int = 0
    removed_bytes: int = 0
