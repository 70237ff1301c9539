"""The service that records builds that relab did not run, from their logs, JUnit XML files and reports of a CI."""

from __future__ import annotations

import io
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Final

from relab.builds.ingest.errors import BuildSourceEmptyError, BuildSourceInvalidError
from relab.builds.ingest.models import ReportedBuild
from relab.builds.logs.models import ByteSource
from relab.builds.models import Build, BuildOrigin, BuildResult, BuildStatus
from relab.builds.results import count_tests
from relab.core.clock import Clock
from relab.core.ids import new_id
from relab.core.json import digest
from relab.core.regular_files import open_regular_file

if TYPE_CHECKING:
    from relab.builds.ingest.reading import SourceFacts
    from relab.builds.store import BuildStore

__all__ = ["DEFAULT_PROJECT", "BuildIngest", "BuildReceipt", "BuildSourceInvalidError", "GivenFacts", "ReportedBuild"]

DEFAULT_PROJECT: Final = "default"


@dataclass(frozen=True, slots=True)
class GivenFacts:
    """Facts that a person or a CI gives about a build. They override the facts in the log; None if not given.

    Attributes:
        project: the name of the project. Default: the repository that the log names, else `default`.
        status: how the build ended.
        commit: the commit that was built.
        branch: the branch or tag.
        job: the name of the CI's job.
        url: the address of the build in its CI.
        input: identifies the input of the build, such as a digest of its files. Default: the commit. A test is flaky
            if it fails and passes in builds with equal input, job and configuration.
        started_at: when the build started, in microseconds since 1970.
        duration_s: the duration in seconds.
        configuration: settings of the build, with the CI's own names.
    """

    project: str | None = None
    status: BuildStatus | None = None
    commit: str | None = None
    branch: str | None = None
    job: str | None = None
    url: str | None = None
    input: str | None = None
    started_at: int | None = None
    duration_s: float | None = None
    configuration: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class BuildReceipt:
    """The result of recording a build.

    Attributes:
        build_id: the id of the build.
        is_new: whether this call stored the build; False if it was stored before.
        project: the project of the build.
        status: how the stored build ended. If `is_new` is False, a different status that was given or read now is
            ignored.
    """

    build_id: str
    is_new: bool
    project: str
    status: BuildStatus


class BuildIngest:
    """Records builds from logs and JUnit XML files.

    Args:
        store, clock: the stored builds and the clock of this installation.
        taught: the folder of the known failures (kinds of failures, with fixes) that people have added; may be missing.
    """

    def __init__(self, store: BuildStore, clock: Clock, taught: Path) -> None:
        self._store = store
        self._clock = clock
        self._taught = taught

    def ingest_file(self, path: Path, given: GivenFacts) -> BuildReceipt:
        """Record the build whose log or JUnit XML file is at `path`; the facts in `given` override those in the file.

        Raises:
            BuildSourceInvalidError: the file cannot be read, is neither a regular file nor a pipe of a shell, is empty,
                binary or too large, or its XML is not accepted.
        """
        try:
            with open_regular_file(path) as file:
                return self.ingest(file, given)
        except OSError as error:
            raise BuildSourceInvalidError(
                f"The file cannot be read: {error.strerror}.", remedy="Give a file that this user may read."
            ) from error

    def ingest(self, source: ByteSource, given: GivenFacts) -> BuildReceipt:
        """Record the build whose log or JUnit XML file is read from `source`; return its receipt.

        If a build of the project was already recorded from the same bytes, nothing is stored.

        Args:
            source: the bytes of the log or file.
            given: facts that replace those in the log or file.

        Raises:
            BuildSourceInvalidError: the source is empty, binary or too large, or its XML is not accepted.
        """
        from relab.builds.ingest.reading import read_source

        facts = read_source(source, given.status)
        project = given.project or facts.repository or DEFAULT_PROJECT
        build = self._build(project, facts, given)
        key = digest(["content", project, facts.digest])
        build_id, is_new = self._record(build, facts, key)
        recorded = build if is_new else self._store.get(build_id)
        return BuildReceipt(build_id, is_new, project, recorded.result.status)

    def report(self, reported: ReportedBuild) -> tuple[Build, bool]:
        """Record a build that a CI reports; return the build, and whether it was recorded now.

        A report with an id is ignored if the project has an earlier report with this id. A report without an id is
        ignored if the project has an equal report. The build of the earlier report is then returned.

        Raises:
            BuildSourceInvalidError: the log is binary, or it is JUnit XML that is not accepted.
        """
        from relab.builds.ingest.reading import SourceFacts, read_source

        given = GivenFacts(
            project=reported.project,
            status=reported.ended_status(),
            commit=reported.commit or None,
            branch=reported.branch or None,
            job=reported.job or None,
            url=reported.url or None,
            input=reported.input or None,
            started_at=reported.started_at,
            duration_s=reported.duration,
            configuration={name: _text(value) for name, value in reported.configuration.items()},
        )
        content = (reported.log or "").encode(errors="replace")
        try:
            facts = read_source(io.BytesIO(content), given.status)
        except BuildSourceEmptyError:
            # The rest of the report is recorded even without a log.
            facts = SourceFacts(kind="report", digest="", size=0, text="", status=BuildStatus.UNKNOWN)
        identity = ["id", reported.id] if reported.id is not None else ["report", reported.model_dump(mode="json")]
        build = self._build(reported.project, facts, given)
        build_id, is_new = self._record(build, facts, digest([reported.project, *identity]))
        return (build if is_new else self._store.get(build_id)), is_new

    def _record(self, build: Build, facts: SourceFacts, source_key: str) -> tuple[str, bool]:
        """Store a build, unless a build with the same `source_key` is already stored.

        Args:
            build: the record to store.
            facts: what the log or file of the build contains.
            source_key: identifies the log, file or report that describes the build.

        Returns:
            The id of the stored build with this `source_key`, and whether this call stored it.
        """
        from relab.builds.suggestions.service import key_of_recorded

        failure_key = key_of_recorded(build.relevant_lines, self._taught) if build.relevant_lines else None
        return self._store.record(build, facts.text, source_key=source_key, tests=facts.tests, failure_key=failure_key)

    def _build(self, project: str, facts: SourceFacts, given: GivenFacts) -> Build:
        status = given.status or facts.status
        commit = given.commit or facts.commit
        named = given.input or commit
        is_failed = status is BuildStatus.FAILED
        cause = facts.cause if is_failed else None
        return Build(
            build_id=new_id(),
            project=project,
            input_digest=digest([named, given.job, given.configuration]) if named else None,
            configuration=None,
            sandbox=None,
            started_at=self._started_at(facts, given),
            result=BuildResult(
                status=status,
                error=facts.error if is_failed else None,
                duration_s=facts.duration_s if given.duration_s is None else given.duration_s,
                peak_memory_mb=None,
                log_bytes=facts.size,
            ),
            origin=BuildOrigin(
                kind=facts.kind,
                commit=commit,
                branch=given.branch or facts.branch,
                job=given.job,
                url=given.url,
                configuration=given.configuration,
            ),
            relevant_lines=facts.lines if is_failed else (),
            tests=count_tests(facts.tests, facts.tests_left_out),
            failure_group=None if cause is None else cause.group_of(project),
            failure_line=None if cause is None else cause.line,
        )

    def _started_at(self, facts: SourceFacts, given: GivenFacts) -> int:
        known = facts.started_at if given.started_at is None else given.started_at
        return self._clock.now_us() if known is None else known


def _text(value: str | float | bool) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
