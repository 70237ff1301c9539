"""The history of the tests of builds: which tests are flaky, broken, fixed or stable."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Final, TypeAlias

from pydantic import BaseModel, ConfigDict, Field

from relab.builds import results_repository as queries
from relab.builds.errors import HistoryCursorError
from relab.builds.flakiness import HistoryStatus, ObservedOutcome, judge
from relab.builds.models import BuildStatus, BuildTestOutcome
from relab.builds.results import id_of_key, key_of_id, key_of_test
from relab.core.clock import Timestamp, parse_time
from relab.storage import Database
from relab.storage.session import DatabaseSession

MAX_BUILDS: Final = 300
"""The history of a project consists of this number of its newest builds."""
MAX_FAILING_SHOWN: Final = 200
_CHUNK: Final = 50
_MAX_JUDGED: Final = 2_000
"""A page ends after this many examined tests, even if few of them have the wanted status."""


class HistoryEvidence(BaseModel):
    """A build that is evidence for the status of a test.

    Attributes:
        build_id: the id of the build.
        started_at: when the build started.
        outcome: how the test ended in this build; `flaky` if it both failed and passed.
        is_inferred: True if the log does not name the test. The test then counts as passed, because the build
            succeeded.
        commit: the commit that was built; None if unknown.
        job: the name of the CI's job; None if unknown.
        branch: the branch that was built; None if unknown.
    """

    model_config = ConfigDict(frozen=True)

    build_id: str
    started_at: Timestamp
    outcome: BuildTestOutcome
    is_inferred: bool = False
    commit: str | None = None
    job: str | None = None
    branch: str | None = None


class JudgedTest(BaseModel):
    """A test with its status (such as flaky or broken), judged by its outcomes in the newest builds of the project.

    The input of a build is what was built, such as a commit, with the settings of the build.

    Attributes:
        test_id: identifies the test by its project and its name.
        project: the project of the test.
        name: the name of the test, at most 500 characters.
        status: `flaky`: it both failed and passed for one input. `broken`: it passed, and has failed since. `failing`:
            it failed in each build. `changing`: its outcome changes, but no input is known with both outcomes.
            `fixed`: it failed, and has passed since. `stable`: it never failed.
        evidence: the builds that show the status, the earlier one first. For `flaky`: two builds of one input, or one
            build with both outcomes. For `broken`: the last pass and the first failure. For `fixed`: the last failure
            and the first pass.
        streak: how many of the newest builds in a row have the same outcome of the test. Only comparable builds are
            counted: recorded ones with the same job, branch and configuration, or those that relab ran with the same
            test selection.
        builds: the number of examined builds in which the test ran.
        failures: the number of these builds in which the test failed.
        was_flaky: whether the test ever both failed and passed for one input.
        message: the message of the last failure that has a message; None without such a failure.
    """

    model_config = ConfigDict(frozen=True)

    test_id: str
    project: str
    name: str
    status: HistoryStatus
    evidence: tuple[HistoryEvidence, ...] = ()
    streak: int = 0
    builds: int = 0
    failures: int = 0
    was_flaky: bool = False
    message: str | None = None


class JudgedTestPage(BaseModel):
    """A page of tests with their status, such as flaky or broken.

    `next_before` is the cursor of the next page; None on the last page.
    """

    items: list[JudgedTest]
    next_before: Annotated[str, Field(max_length=300)] | None = None


@dataclass(frozen=True, slots=True)
class _BuildFacts:
    """The facts of a build that are needed to judge its tests.

    Attributes:
        input: identifies what was built (such as the commit) and the settings of the build; None if unknown.
        lane: identifies a sequence of comparable builds. Builds that relab ran are comparable if they have the same
            test selection; recorded builds, if they have the same job, branch and configuration.
        passes_all: whether a test that the log does not name counts as passed. This is so if the build succeeded and
            ran the same tests as the other builds of its lane.
    """

    build_id: str
    started_at: int
    input: str | None
    lane: str
    passes_all: bool
    is_ended: bool
    origin: Mapping[str, Any]


_Results: TypeAlias = dict[int, list[queries.ResultRow]]


class BuildHistory:
    """Decides whether tests are flaky, broken or stable, by the newest builds of their project.

    Args:
        database: the database of the builds.
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    def list_tests(
        self,
        *,
        project: str | None = None,
        status: HistoryStatus | None = None,
        before: str | None = None,
        limit: int = 50,
    ) -> JudgedTestPage:
        """Return a page of at most `limit` tests that failed at least once; tests with the newest failures come first.

        If `status` is `stable`, return tests that never failed instead, sorted by project. A call examines a limited
        number of tests. So a page may be short or empty although `next_before` names a next page.

        Args:
            project: only tests of this project; None for all projects.
            status: only tests with this status; None for all tests that failed at least once.
            before: `next_before` of the previous page; None for the first page.
            limit: the largest number of tests.

        Raises:
            HistoryCursorError: `before` is not from a previous page.
        """
        is_stable = status is HistoryStatus.STABLE
        items: list[JudgedTest] = []
        cursor = None if before is None else _read_cursor(before)
        with self._database.read() as session:
            builds: dict[str, list[_BuildFacts]] = {}
            for _ in range(_MAX_JUDGED // _CHUNK):
                if is_stable:
                    found = queries.tests_that_passed(session, project=project, after=cursor, limit=_CHUNK)
                else:
                    found = queries.tests_that_failed(session, project=project, before=cursor, limit=_CHUNK)
                judged = _judged(session, found, builds)
                for test in found:
                    cursor = (test.project if is_stable else test.build_id), test.test_key
                    item = judged.get(test.test_key)
                    if item is not None and (status is None or item.status is status):
                        items.append(item)
                    if len(items) == limit:
                        return JudgedTestPage(items=items, next_before=_write_cursor(cursor))
                if len(found) < _CHUNK:
                    return JudgedTestPage(items=items)
        return JudgedTestPage(items=items, next_before=None if cursor is None else _write_cursor(cursor))

    def failing_tests(self, build_id: str) -> list[JudgedTest]:
        """Return at most `MAX_FAILING_SHOWN` tests that failed in a build, sorted by name.

        Each test has a status (such as flaky or broken), judged by its outcomes in the newest builds of the project.
        """
        with self._database.read() as session:
            rows = queries.failed_in_build(session, build_id, limit=MAX_FAILING_SHOWN)
            project = queries.project_of(session, build_id)
            if not rows or project is None:
                return []
            wanted = [queries.FoundTest(project, row.test_key, row.build_id) for row in rows]
            judged = _judged(session, wanted, {})
        return [judged[test.test_key] for test in wanted if test.test_key in judged]

    def known_tests(self, project: str, names: Iterable[str]) -> list[JudgedTest]:
        """Return the tests with these names, each judged by its outcomes in the newest builds of a project.

        At most `MAX_FAILING_SHOWN` tests are judged. A test without a result in the newest builds is left out.
        """
        keys = list(dict.fromkeys(key_of_test(project, name) for name in names))[:MAX_FAILING_SHOWN]
        with self._database.read() as session:
            judged = _judged(session, [queries.FoundTest(project, key, "") for key in keys], {})
        return [judged[key] for key in keys if key in judged]


def _judged(
    session: DatabaseSession, tests: Sequence[queries.FoundTest], builds: dict[str, list[_BuildFacts]]
) -> dict[int, JudgedTest]:
    """Decide the status of tests, such as flaky or broken, by their results in the newest builds of their projects.

    Return `{test key: judged test}`. A test without a result in a project's newest `MAX_BUILDS` builds is left out.

    Args:
        session: the session of the transaction.
        tests: the tests whose status is decided.
        builds: a cache, `{project: facts about its newest builds}`. This function adds missing projects.
    """
    keys: dict[str, list[int]] = {}
    for test in tests:
        keys.setdefault(test.project, []).append(test.test_key)
    judged: dict[int, JudgedTest] = {}
    for project, wanted in keys.items():
        if project not in builds:
            builds[project] = [_facts(each) for each in queries.newest_builds(session, project, limit=MAX_BUILDS)]
        if not builds[project]:
            continue
        results: _Results = {}
        since = builds[project][-1].build_id
        for start in range(0, len(wanted), _CHUNK):
            for row in queries.results_of_tests(session, project, wanted[start : start + _CHUNK], since=since):
                results.setdefault(row.test_key, []).append(row)
        judged |= {key: _judge_test(project, key, rows, builds[project]) for key, rows in results.items()}
    return judged


def _judge_test(project: str, key: int, rows: list[queries.ResultRow], builds: Sequence[_BuildFacts]) -> JudgedTest:
    by_id = {build.build_id: build for build in builds}
    observations = list(_observations(rows, by_id))
    verdict = judge(observations)
    failed = [each for each in observations if each.outcome is not BuildTestOutcome.PASSED]
    messages = {row.build_id: row.message for row in rows if row.message}
    explained = [each for each in failed if each.build_id in messages]
    # Builds may be recorded in another order than they started.
    last = max(explained, key=lambda each: (each.started_at, each.build_id), default=None)
    return JudgedTest(
        test_id=id_of_key(key),
        project=project,
        name=rows[0].name,
        status=verdict.status,
        evidence=tuple(_evidence(each, by_id[each.build_id]) for each in verdict.evidence),
        streak=verdict.streak,
        builds=len(observations),
        failures=len(failed),
        was_flaky=verdict.was_flaky,
        message=None if last is None else messages[last.build_id],
    )


def _observations(rows: Iterable[queries.ResultRow], builds: Mapping[str, _BuildFacts]) -> Iterator[ObservedOutcome]:
    """Yield the outcomes of one test: the reported outcomes in `rows`, and inferred passes.

    A log may not name the tests that passed. So passes are inferred for builds without a result in `rows`. Such a
    build counts as passed if `passes_all` is true and another build of its lane (comparable builds) has a result.

    Results of skipped tests are ignored, as are results of unfinished or interrupted builds.

    Args:
        rows: the results of the test, from the logs of builds.
        builds: `{build id: facts}` of the builds in which the test may have run.
    """
    named = {row.build_id for row in rows}
    lanes = set()
    for row in rows:
        build = builds.get(row.build_id)
        outcome = BuildTestOutcome(row.outcome)
        # The tests of a build that was stopped may have failed because of that.
        if build is None or not build.is_ended or outcome is BuildTestOutcome.SKIPPED:
            continue
        lanes.add(build.lane)
        yield ObservedOutcome(build.build_id, build.started_at, build.input, build.lane, outcome)
    for build in builds.values():
        if build.passes_all and build.lane in lanes and build.build_id not in named:
            yield ObservedOutcome(
                build.build_id, build.started_at, build.input, build.lane, BuildTestOutcome.PASSED, is_inferred=True
            )


def _facts(document: Mapping[str, Any]) -> _BuildFacts:
    """Return the facts about a build that are needed to judge its tests, from its stored JSON."""
    configuration, origin = document["configuration"], document.get("origin") or {}
    status = document["result"]["status"]
    if configuration is not None:
        # The budget of retries changes nothing in one build; a kept cache or workspace is a part of the input.
        compared = {name: value for name, value in configuration.items() if name != "retries"}
        is_repeatable = not (configuration["cache"] or configuration["incremental"])
        given = [document["input_digest"], compared] if is_repeatable and document["input_digest"] else None
        lane = ["run", configuration["tests"]]
    else:
        # The digest of a recorded build names its commit or input, with its job and its configuration.
        digest = document["input_digest"] or origin.get("commit")
        given = [digest, origin.get("job")] if digest else None
        lane = ["recorded", origin.get("kind") == "junit", origin.get("job"), origin.get("branch")]
        lane.append(origin.get("configuration"))
    # Without a job, a build that succeeded may be one that runs no tests; a file of JUnit XML may be one of several of its build.
    runs_the_same = configuration is not None or (bool(origin.get("job")) and origin.get("kind") != "junit")
    return _BuildFacts(
        build_id=document["build_id"],
        started_at=parse_time(document["started_at"]),
        input=None if given is None else json.dumps(given, sort_keys=True),
        lane=json.dumps(lane, sort_keys=True),
        passes_all=status == BuildStatus.SUCCESS.value and runs_the_same,
        is_ended=status not in {BuildStatus.INTERRUPTED.value, BuildStatus.RUNNING.value},
        origin=origin,
    )


def _evidence(observation: ObservedOutcome, build: _BuildFacts) -> HistoryEvidence:
    return HistoryEvidence(
        build_id=build.build_id,
        started_at=build.started_at,
        outcome=observation.outcome,
        is_inferred=observation.is_inferred,
        commit=build.origin.get("commit"),
        job=build.origin.get("job"),
        branch=build.origin.get("branch"),
    )


def _write_cursor(cursor: tuple[str, int]) -> str:
    first, key = cursor
    return f"{id_of_key(key)}.{first}"


def _read_cursor(text: str) -> tuple[str, int]:
    """Decode the cursor of a page of tests: return `(position, test key)` of the last test on the previous page.

    The position is the id of the last build in which this test failed. For a list of tests that never failed, it is the
    project of this test.

    Raises:
        HistoryCursorError: the text is not from a previous page.
    """
    test_id, _, first = text.partition(".")
    try:
        return first, key_of_id(test_id)
    except ValueError:
        raise HistoryCursorError(text) from None
