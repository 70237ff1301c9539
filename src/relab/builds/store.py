"""Store and read builds; each method is one transaction."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from relab.builds import repository, results_repository, totals
from relab.builds.errors import BuildNotFoundError, BuildProjectNotFoundError
from relab.builds.models import Build, BuildResult, BuildStatus, BuildTest
from relab.builds.results import MAX_STORED_TESTS, rows_of_tests
from relab.core.masking import mask_secrets
from relab.storage import Database, UnitOfWork
from relab.storage.errors import ConstraintError

_KNOWN_FAILURES: Final = 20_000
_MAX_NAMED_PROJECTS: Final = 20


class BuildStore:
    """Stores and reads builds, with their logs and the results of their tests."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def add(self, build: Build, *, folder: str | None = None) -> None:
        """Insert a build: one that relab starts on this machine, or an ended one that relab did not run.

        Args:
            build: the build.
            folder: a digest of this host's name and the build's folder (`BuildFolder.identity`); None if relab did not
                run the build.
        """
        with self._database.write() as unit:
            repository.add(unit.session, {**_columns(build), "build_id": build.build_id, "folder": folder})
            # Counts only ended builds.
            totals.count_build(unit.session, build)

    def record(
        self,
        build: Build,
        log: str,
        *,
        source_key: str,
        tests: Sequence[BuildTest] = (),
        failure_key: str | None = None,
    ) -> tuple[str, bool]:
        """Store an ended build that relab did not run, with its log. Store nothing if its source is recorded already.

        Args:
            build: the build.
            log: the log of the build, already shortened to about 1 MiB. This method masks secrets in it.
            source_key: identifies the source of the build: a log, a file or a report.
            tests: the results of its tests; at most `MAX_STORED_TESTS` are stored, with secrets masked.
            failure_key: identifies how the build failed; None if it did not fail, or if no line shows the failure.

        Returns:
            `(id, is_new)`: the id of the stored build with this source, and whether this call stored it.
        """
        text = mask_secrets(log).replace("\x00", "\ufffd")
        try:
            with self._database.write() as unit:
                found = repository.id_of_source(unit.session, source_key)
                if found is not None:
                    return found, False
                keys = {"source_key": source_key, "failure_key": failure_key}
                values = {**_columns(build), "build_id": build.build_id, **keys}
                repository.add(unit.session, values)
                repository.add_log(unit.session, build.build_id, text)
                self._add_tests(unit, build, tests)
                totals.count_build(unit.session, build)
                return build.build_id, True
        except ConstraintError:
            # Another process has recorded the same source in the meantime.
            with self._database.read() as session:
                found = repository.id_of_source(session, source_key)
            if found is None:
                raise
            return found, False

    def finish(self, build: Build, log: str | None, tests: Sequence[BuildTest] = ()) -> None:
        """Store the end of a build with its log (None: no log) and its test results, in one transaction."""
        with self._database.write() as unit:
            self._end(unit, build)
            if log is not None:
                # PostgreSQL's text cannot contain NUL.
                repository.add_log(unit.session, build.build_id, log.replace("\x00", "\ufffd"))
            self._add_tests(unit, build, tests)

    def interrupt_running(self, folder: str, result: BuildResult) -> None:
        """End every `running` build of a folder with the given result, and count these builds in the metrics.

        Args:
            folder: the digest of the folder (`BuildFolder.identity`).
            result: the result to store, for example with the status `interrupted`.
        """
        with self._database.write() as unit:
            for document in repository.running_in(unit.session, folder):
                build = Build.model_validate(document, strict=False).model_copy(update={"result": result})
                if repository.end_running(unit.session, build.build_id, _columns(build)):
                    totals.count_build(unit.session, build)

    @staticmethod
    def _add_tests(unit: UnitOfWork, build: Build, tests: Sequence[BuildTest]) -> None:
        known: set[int] = set()
        if len(tests) > MAX_STORED_TESTS:
            known = results_repository.failed_keys(unit.session, build.project, _KNOWN_FAILURES)
        rows = rows_of_tests(build.build_id, build.project, tests, known)
        results_repository.add_results(unit.session, rows)

    @staticmethod
    def _end(unit: UnitOfWork, build: Build) -> None:
        if repository.end_running(unit.session, build.build_id, _columns(build)):
            totals.count_build(unit.session, build)
        else:
            repository.change(unit.session, build.build_id, _columns(build))

    def set_failure_key(self, build_id: str, key: str) -> None:
        """Store the key of a build's failure; builds with the same key failed in the same way.

        `key` is a digest of the log line that shows the failure. Numbers in the line are masked first.
        """
        with self._database.write() as unit:
            repository.change(unit.session, build_id, {"failure_key": key})

    def get(self, build_id: str) -> Build:
        """Return a build.

        Raises:
            BuildNotFoundError: no build has this id.
        """
        with self._database.read() as session:
            found = repository.get(session, build_id)
        if found is None:
            raise BuildNotFoundError(build_id)
        return Build.model_validate(found, strict=False)

    def log(self, build_id: str) -> str | None:
        """Return the stored log of a build, shortened to about 1 MiB; None if no log is stored.

        No log is stored while the build runs, or if its process died.
        """
        with self._database.read() as session:
            return repository.log(session, build_id)

    def list_builds(
        self, *, project: str | None = None, status: BuildStatus | None = None, before: str | None = None, limit: int
    ) -> list[Build]:
        """Return at most `limit` builds, newest first.

        Args:
            project: only builds of this project; None for all.
            status: only builds with this status; None for all.
            before: only builds whose ids are lower than this id; None to begin with the newest.
            limit: the largest number of builds.
        """
        with self._database.read() as session:
            found = repository.list_builds(session, project=project, status=status, before=before, limit=limit)
        return [Build.model_validate(document, strict=False) for document in found]

    def check_project(self, project: str) -> None:
        """Check that a build, a decision or a suggestion is stored for a project.

        Raises:
            BuildProjectNotFoundError: nothing is stored; the error names at most 20 other projects.
        """
        with self._database.read() as session:
            if not repository.project_names(session, project, limit=1):
                raise BuildProjectNotFoundError(project, repository.project_names(session, limit=_MAX_NAMED_PROJECTS))

    def list_failed_alike(self, project: str, failure_key: str, *, limit: int) -> list[Build]:
        """Return at most `limit` failed builds of a project with the key `failure_key`, newest first."""
        with self._database.read() as session:
            found = repository.list_failed_alike(session, project, failure_key, limit=limit)
        return [Build.model_validate(document, strict=False) for document in found]

    def running(self) -> int:
        """Return the number of running builds."""
        with self._database.read() as session:
            return repository.count_running(session)

    def running_folders(self) -> set[str]:
        """Return the digests (`BuildFolder.identity`) of the folders of all builds with the status `running`.

        The process of such a build may have died. Builds that relab did not run have no folder.
        """
        with self._database.read() as session:
            return repository.running_folders(session)


def _columns(build: Build) -> dict[str, Any]:
    failure = build.result.failure
    return {
        "project": build.project,
        "status": build.result.status.value,
        "failure": None if failure is None else failure.value,
        "started_at": build.started_at,
        "failure_group": build.failure_group,
        "document": build.model_dump(mode="json"),
    }
