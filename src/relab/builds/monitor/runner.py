"""Run one real build in a sandbox, measure it, and end it if it exceeds a limit."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from threading import Event
from typing import Final

from relab.builds.errors import BuildFolderError, BuildSandboxError
from relab.builds.logs.groups import FailureCause, failure_cause
from relab.builds.logs.named_tests import LoggedTests
from relab.builds.models import BuildConfiguration, BuildFailure, BuildResult, BuildStatus
from relab.builds.monitor.build_file import BUILD_FILE, BuildNetwork, BuildProject, BuildSandbox
from relab.builds.monitor.build_log import bounded_log, error_and_cause, tests_of
from relab.builds.monitor.workspace import BuildFolder, snapshot_of
from relab.experiments.config.sanitization import Profile, base_environment
from relab.experiments.errors import ExperimentInvalidError, RunDiskFullError, SandboxUnavailableError
from relab.experiments.sandbox.kinds import SandboxMode, SandboxOptions
from relab.experiments.sandbox.process import MARKER
from relab.experiments.sandbox.protocol import (
    Folders,
    Launch,
    NetworkMode,
    RunningAttempt,
    Sandbox,
    SandboxError,
    SandboxLimits,
)
from relab.experiments.workspace.snapshots import ProjectSnapshot
from relab.experiments.workspace.untrusted_trees import size_of_copy

_MB: Final = 1_048_576
_MAX_PIDS: Final = 1_024
_MAX_OPEN_FILES: Final = 65_536
_GRACE_S: Final = 2.0
_MIN_POLL_S: Final = 0.01
_MAX_POLL_S: Final = 0.1
_DISK_EVERY_S: Final = 2.0
_NEARLY_ALL: Final = 0.9
"""The share of the memory limit from which a build that hits its time limit may have lacked memory. A build of SQLite
that needs 250 MB used 98 % of 235 MB until its time limit."""
_EXCEEDED: Final[Mapping[str, BuildFailure]] = {
    "memory_mb": BuildFailure.OUT_OF_MEMORY,
    "max_pids": BuildFailure.PROCESS_LIMIT,
    "max_open_files": BuildFailure.OPEN_FILES_LIMIT,
}


@dataclass(frozen=True, slots=True)
class OpenedSandbox:
    """A prepared sandbox for one build.

    `note` says why bubblewrap, which isolates builds, is not used; None if the sandbox is bubblewrap.
    """

    sandbox: Sandbox
    note: str | None


@dataclass(frozen=True, slots=True)
class MeasuredBuild:
    """The result of one build, with its shortened log, the tests that the log names, and the cause of a failure."""

    result: BuildResult
    log: str
    tests: LoggedTests
    cause: FailureCause | None = None


def open_sandbox(project: BuildProject, configuration: BuildConfiguration, folder: BuildFolder) -> OpenedSandbox:
    """Return a prepared sandbox for one build, of the kind that the build file names; the caller closes it.

    - `bwrap`: bubblewrap.
    - `local`: plain processes without isolation.
    - `auto`: bubblewrap if it works on this machine, otherwise plain processes; the result's `note` has the reason.

    Args:
        project: the project, with its build file.
        configuration: the configuration of the build, with its memory limit.
        folder: the folder of the project's builds; its `key` is part of the sandbox's id.

    Raises:
        BuildSandboxError: the build file requires bubblewrap, which does not work on this machine.
    """
    wanted = project.file.sandbox
    options = SandboxOptions(
        run_id=f"build-{folder.key}",
        network=NetworkMode.FULL if project.file.network is BuildNetwork.FULL else NetworkMode.NONE,
        limits=SandboxLimits(
            memory_mb=configuration.memory_mb,
            max_pids=_MAX_PIDS,
            max_open_files=_MAX_OPEN_FILES,
            tmp_mb=int(project.file.max_written_mb) + 64,
        ),
    )
    note = "build.yaml asks for it (sandbox: local)" if wanted is BuildSandbox.LOCAL else None
    if wanted is not BuildSandbox.LOCAL:
        sandbox = SandboxMode.BWRAP.kind.make(options)
        try:
            sandbox.prepare()
        except SandboxUnavailableError as error:
            sandbox.close()
            if wanted is BuildSandbox.BWRAP:
                raise BuildSandboxError(
                    f"Builds of {project.file.name} require bubblewrap: {error}",
                    remedy="Set `sandbox: auto` in build.yaml to build without isolation.",
                ) from error
            note = f"bubblewrap does not work here: {error}"
        else:
            return OpenedSandbox(sandbox, None)
    sandbox = SandboxMode.LOCAL.kind.make(options)
    sandbox.prepare()
    return OpenedSandbox(sandbox, note)


def take_project(project: BuildProject, folder: BuildFolder) -> ProjectSnapshot:
    """Return a read-only copy of the project's current files, made in the folder of the project's builds.

    Raises:
        BuildFolderError: the project cannot be read, it changed meanwhile, or the copy cannot be written.
    """
    try:
        return snapshot_of(project, folder)
    except OSError as error:
        raise BuildFolderError(f"{project.root} cannot be copied: {error.strerror}: {error.filename}.") from error
    except (ExperimentInvalidError, RunDiskFullError) as error:
        # The remedies of these errors name fields of experiments, which a build does not have.
        raise BuildFolderError(
            f"{project.root} cannot be copied: {error.message}",
            remedy=f"If no build needs the file, add it to `ignore` in {BUILD_FILE}; free disk space if it is full.",
        ) from error


def run_build(
    project: BuildProject,
    configuration: BuildConfiguration,
    snapshot: ProjectSnapshot,
    folder: BuildFolder,
    sandbox: Sandbox,
    *,
    stop: Event,
    host_environment: Mapping[str, str] = os.environ,
) -> MeasuredBuild:
    """Run one build (one attempt, without retries) to its end; return its result with its log.

    Args:
        project: the project.
        configuration: the configuration of the build; its values must be checked already.
        snapshot: the project's files.
        folder: the locked folder of the project's builds.
        sandbox: a prepared sandbox with the memory limit of the configuration.
        stop: ends the build when set; its status is then `interrupted`.
        host_environment: the environment variables of this process; the build gets PATH from them.

    Raises:
        BuildFolderError: a file of the build cannot be written or read.
    """
    try:
        folders = folder.prepare(snapshot, keeps_cache=configuration.cache, incremental=configuration.incremental)
        places = sandbox.places(folders)
        command, given = project.file.command_of(configuration, places.state)
        base = base_environment(Profile.HERMETIC_FUNCTIONAL, host_environment, places.home, places.tmp)
        # A kept cache and the files of an old workspace exist before the build; the build did not write them.
        written_bytes = _size_of(folders) + int(project.file.max_written_mb * _MB)
        launch = Launch(
            command=command,
            # Processes that outlive this one are found by the marker.
            environment=base | given | {MARKER: places.out},
            folders=folders,
            stdin=Path(os.devnull),
            stdout=folder.log,
            stderr=folder.log,
            max_file_bytes=written_bytes,
        )
        watch = _BuildWatch(project, configuration, launch, written_bytes, stop)
        result = _started(sandbox, launch, watch)
        log, size = bounded_log(folder.log) if folder.log.exists() else ("", 0)
        tests = tests_of(folder.log, has_succeeded=result.status is BuildStatus.SUCCESS) if size else LoggedTests()
        folder.release()
    except OSError as error:
        raise BuildFolderError(f"The build cannot use its folder {folder.root}: {error.strerror}.") from error
    result, cause = _explained(result, log, size)
    return MeasuredBuild(result, log, tests, cause)


def _started(sandbox: Sandbox, launch: Launch, watch: _BuildWatch) -> BuildResult:
    try:
        running = sandbox.start(launch)
        try:
            if running.posture.egress_self_test.get("passed") is False:
                running.end(0)
                return _not_started("the egress self-test of the sandbox found a way to the network")
            return watch.until_end(running)
        finally:
            running.close()
    except SandboxError as error:
        return _not_started(str(error))


def _not_started(reason: str) -> BuildResult:
    error = f"The build could not be run: {reason}"
    return BuildResult(status=BuildStatus.FAILED, failure=BuildFailure.NOT_STARTED, error=error)


def _size_of(folders: Folders) -> int:
    """Return the total size, in bytes, of the folders that a build writes to."""
    total, _ = size_of_copy(folders.workspace, folders.state, folders.out, folders.tmp)
    return total


def _explained(result: BuildResult, log: str, size: int) -> tuple[BuildResult, FailureCause | None]:
    """Add the size of the log and the cause of the failure to a build's result; return `(result, cause)`.

    Failed builds with the same cause form a group; the cause is None if it is unknown. If the command of the build
    failed, the line of the log that says most about the failure is appended to the error text.

    Args:
        result: the result of the build.
        log: the log of the build, shortened to about 1 MiB.
        size: the size of the whole log, in bytes.
    """
    error, cause = result.error, None
    if result.failure is not None and result.failure.is_in_log:
        line, cause = error_and_cause(log)
        error = f"{error}: {line}" if line is not None else error
    elif result.failure is not None:
        cause = failure_cause((), kind=result.failure.value, error=error)
    return result.model_copy(update={"error": error, "log_bytes": size}), cause


class _BuildWatch:
    """Waits for a build, samples its memory, and ends it if it exceeds a limit."""

    def __init__(
        self,
        project: BuildProject,
        configuration: BuildConfiguration,
        launch: Launch,
        written_bytes: int,
        stop: Event,
    ) -> None:
        self._file = project.file
        self._configuration = configuration
        self._launch = launch
        self._written_bytes = written_bytes
        self._stop = stop
        self._peak_bytes = 0

    def until_end(self, running: RunningAttempt) -> BuildResult:
        """Wait until the build ends, and return its result; the size of the log is not yet set.

        The build is ended if it exceeds a limit (such as time, memory or disk space), or if a stop is requested.
        """
        started = time.monotonic()
        poll_s, next_disk_check = _MIN_POLL_S, started + _DISK_EVERY_S
        while True:
            code = running.wait(poll_s)
            duration_s = time.monotonic() - started
            # Checked also after the end: a limit of the kernel may have ended one process, and therefore the whole
            # build.
            reason = self._exceeded(running)
            if code is not None:
                return self._result(code, reason or self._over_log() or self._over_disk(running), duration_s)
            self._peak_bytes = max(self._peak_bytes, running.memory_bytes())
            if reason is None and self._stop.is_set():
                return self._result(running.end(_GRACE_S), None, duration_s, is_interrupted=True)
            reason = reason or self._over_time(duration_s) or self._over_log()
            if reason is None and time.monotonic() >= next_disk_check:
                reason = self._over_disk(running)
                next_disk_check = time.monotonic() + _DISK_EVERY_S
            if reason is not None:
                return self._result(running.end(_GRACE_S), reason, duration_s)
            left_s = self._configuration.time_limit_s - duration_s
            poll_s = max(min(poll_s * 1.5, _MAX_POLL_S, left_s), _MIN_POLL_S / 10)

    def _result(
        self, code: int, reason: tuple[BuildFailure, str] | None, duration_s: float, *, is_interrupted: bool = False
    ) -> BuildResult:
        if reason is None and code != 0 and not is_interrupted:
            kind = BuildFailure.SIGNAL if code < 0 else BuildFailure.EXIT_CODE
            reason = kind, f"Signal {-code}" if code < 0 else f"Exit code {code}"
        peak_mb = self._peak_bytes / _MB
        if reason is not None and reason[0] is BuildFailure.OUT_OF_MEMORY:
            peak_mb = max(peak_mb, self._configuration.memory_mb)
        status = BuildStatus.SUCCESS if reason is None else BuildStatus.FAILED
        return BuildResult(
            status=BuildStatus.INTERRUPTED if is_interrupted else status,
            failure=None if reason is None else reason[0],
            error="The build was stopped." if is_interrupted else None if reason is None else reason[1],
            exit_code=code,
            duration_s=round(duration_s, 3),
            peak_memory_mb=round(peak_mb, 1),
        )

    def _exceeded(self, running: RunningAttempt) -> tuple[BuildFailure, str] | None:
        limit = running.exceeded()
        if limit is None:
            return None
        text = {
            "memory_mb": f"Out of memory during build: it needs more than {self._configuration.memory_mb} MB",
            "max_pids": f"The build ran more than {_MAX_PIDS:,} processes and threads at once",
            "max_open_files": f"A process of the build opened {_MAX_OPEN_FILES:,} files",
        }[limit]
        return _EXCEEDED[limit], text

    def _over_time(self, duration_s: float) -> tuple[BuildFailure, str] | None:
        limit_s = self._configuration.time_limit_s
        if duration_s < limit_s:
            return None
        error = f"The build took longer than its time limit of {limit_s:g} s"
        memory_mb = self._configuration.memory_mb
        if self._peak_bytes >= _NEARLY_ALL * memory_mb * _MB:
            # The kernel then drops the code of running programs from memory and reads it again, all the time.
            error += (
                f"; it used {self._peak_bytes / _MB:.0f} of {memory_mb} MB (memory_mb), so too little memory may have "
                "slowed it down"
            )
        return BuildFailure.TIMED_OUT, error

    def _over_log(self) -> tuple[BuildFailure, str] | None:
        try:
            size = self._launch.stdout.lstat().st_size
        except FileNotFoundError:
            return None
        if size <= self._file.max_log_mb * _MB:
            return None
        return BuildFailure.LOG_LIMIT, f"The log is larger than {self._file.max_log_mb:g} MB (max_log_mb)"

    def _over_disk(self, running: RunningAttempt) -> tuple[BuildFailure, str] | None:
        if _size_of(self._launch.folders) + running.hidden_bytes() <= self._written_bytes:
            return None
        return BuildFailure.DISK_LIMIT, f"The build wrote more than {self._file.max_written_mb:g} MB (max_written_mb)"
