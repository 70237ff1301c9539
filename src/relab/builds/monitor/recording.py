"""Run builds of a project while its folder is locked; each build is stored before it starts and when it ends."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from threading import Event
from typing import Final

from relab.builds.errors import BuildFolderError
from relab.builds.models import Build, BuildConfiguration, BuildResult, BuildStatus, BuildTest
from relab.builds.monitor.abandoned import end_abandoned
from relab.builds.monitor.build_file import BuildProject
from relab.builds.monitor.kept import KeptFolders
from relab.builds.monitor.runner import open_sandbox, run_build, take_project
from relab.builds.monitor.workspace import BuildFolder, locked_folder
from relab.builds.results import count_tests
from relab.builds.store import BuildStore
from relab.core.clock import Clock
from relab.core.ids import new_id
from relab.core.json import digest
from relab.core.logging import get_logger
from relab.experiments.workspace.snapshots import ProjectSnapshot
from relab.storage.errors import ConstraintError, DatabaseUnavailableError

_OUTAGE_S: Final = 60.0
"""How long the end of a build is stored again while the database is unavailable: longer than a restart of a database."""
_RETRY_S: Final = 1.0

_log = get_logger(__name__)


class ProjectBuilds:
    """Runs builds of a project whose folder is locked. Use `locked_builds` to create an object of this class.

    Attributes:
        project: the project.
        input_digest: a digest of the project's files and its build file, as they were when the folder was locked.
    """

    def __init__(
        self,
        project: BuildProject,
        folder: BuildFolder,
        snapshot: ProjectSnapshot,
        store: BuildStore,
        clock: Clock,
        environment: Mapping[str, str],
    ) -> None:
        self.project = project
        self.input_digest = digest([project.file.model_dump(mode="json"), snapshot.manifest.digest])
        self._folder = folder
        self._snapshot = snapshot
        self._store = store
        self._clock = clock
        self._environment = environment

    def run(self, configuration: BuildConfiguration, *, retry_of: str | None, stop: Event) -> Build:
        """Run one build (one attempt, without retries), store it with its log, and return its record.

        Args:
            configuration: the configuration of the build; `retries` has no effect here.
            retry_of: the id of the build that this attempt retries; None if it is not a retry.
            stop: ends the attempt when set.

        Raises:
            BuildSandboxError: the sandbox that the build file requires does not work here.
            BuildFolderError: a file of the build cannot be written; the record becomes `interrupted`, with the reason.
            DatabaseUnavailableError: the build is not stored, because the database is unavailable for a longer time.
        """
        opened = open_sandbox(self.project, configuration, self._folder)
        build = Build(
            build_id=new_id(),
            project=self.project.file.name,
            input_digest=self.input_digest,
            configuration=configuration,
            retry_of=retry_of,
            sandbox=opened.sandbox.name,
            sandbox_note=opened.note,
            started_at=self._clock.now_us(),
            result=BuildResult(status=BuildStatus.RUNNING),
        )
        try:
            self._store.add(build, folder=self._folder.identity)
            measured = run_build(
                self.project,
                configuration,
                self._snapshot,
                self._folder,
                opened.sandbox,
                stop=stop,
                host_environment=self._environment,
            )
        except BuildFolderError as error:
            result = BuildResult(status=BuildStatus.INTERRUPTED, error=error.message)
            self._store.finish(build.model_copy(update={"result": result}), None)
            raise
        finally:
            opened.sandbox.close()
        tests = list(measured.tests.tests.values())
        counts = count_tests(tests, measured.tests.left_out)
        known: dict[str, object] = {"result": measured.result, "tests": counts}
        if measured.cause is not None and measured.result.status is BuildStatus.FAILED:
            known |= {"failure_group": measured.cause.group_of(build.project), "failure_line": measured.cause.line}
        build = build.model_copy(update=known)
        self._store_end(build, measured.log, tests, stop)
        return build

    def _store_end(self, build: Build, log: str, tests: Sequence[BuildTest], stop: Event) -> None:
        """Store the end of a build with its log and test results. While the database is unavailable, try again.

        Args:
            build: the build with its result.
            log: the log of the build, shortened.
            tests: the results of its tests.
            stop: when set, the end is not stored again.

        Raises:
            DatabaseUnavailableError: the database is unavailable for more than `_OUTAGE_S` seconds, or `stop` is set.
        """
        deadline, is_repeated = time.monotonic() + _OUTAGE_S, False
        while True:
            try:
                self._store.finish(build, log, tests)
            except DatabaseUnavailableError as error:
                if stop.is_set() or time.monotonic() >= deadline:
                    raise
                _log.warning("build_waits_for_database", build_id=build.build_id, error=str(error))
                is_repeated = True
                stop.wait(_RETRY_S)
            except ConstraintError:
                if not is_repeated:
                    raise
                # The connection was lost after the commit, so the end is stored already.
                return
            else:
                return


@contextmanager
def locked_builds(
    project: BuildProject,
    *,
    home: Path,
    kept: KeptFolders,
    store: BuildStore,
    clock: Clock,
    environment: Mapping[str, str],
) -> Iterator[ProjectBuilds]:
    """Lock the folder of a project below `home`, and yield an object that runs builds of the project.

    The project's files are copied first. Dead builds (their process has died) in the folder become `interrupted`. After
    the block, the lock is released, and kept files are removed until the limit of `kept` is met.

    Args:
        project: the project to build.
        home: the folder with one folder for each project.
        kept: the kept files (caches, workspaces, snapshots) of all projects, with their limit.
        store: stores the records of the builds.
        clock: gives the times of the builds.
        environment: the environment variables of this process; builds get some of them.

    Raises:
        ProjectBusyError: another process builds the project.
        BuildFolderError: the folder or the project cannot be used.
    """
    try:
        with locked_folder(home, project) as folder:
            end_abandoned(folder, store)
            try:
                yield ProjectBuilds(project, folder, take_project(project, folder), store, clock, environment)
            finally:
                # The files of this project are now the most recently used ones, so they are removed last.
                kept.note_use(folder.root, clock.now_us())
    finally:
        kept.enforce()
