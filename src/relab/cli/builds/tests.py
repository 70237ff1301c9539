"""`lab builds tests`: which tests are flaky, broken, fixed or stable."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Final

import typer

from relab.cli.builds.projects import check_project
from relab.cli.choices import choice_of
from relab.cli.context import open_services
from relab.cli.output import JsonOption, plain, print_json, print_table
from relab.core.errors import InvalidInputError

if TYPE_CHECKING:
    from relab.builds.service import HistoryEvidence, JudgedTest

_MAX_PRINTED: Final = 10


def list_tests(
    project: Annotated[str | None, typer.Argument(help="Only tests of the project with this name.")] = None,
    flaky: Annotated[bool, typer.Option("--flaky", help="Only flaky tests; the same as --status flaky.")] = False,
    status: Annotated[
        str | None,
        typer.Option(
            help="flaky | broken | failing | changing | fixed | stable (never failed). By default, all tests that have failed."
        ),
    ] = None,
    before: Annotated[
        str | None,
        typer.Option(help="To list the next page: the value of --before that the previous page printed at its end."),
    ] = None,
    limit: Annotated[int, typer.Option(min=1, max=1_000)] = 50,
    as_json: JsonOption = False,
) -> None:
    """List the tests that have failed in recorded builds, each with its status and the builds as evidence.

    With --status stable, list the tests that never failed. A flaky test both failed and passed for the same input. A
    broken test passed earlier and has failed in each build since. Tests with the newest failures come first. The
    newest 300 builds of a project are examined.
    """
    from relab.builds.service import HistoryStatus

    wanted = choice_of(HistoryStatus, "--status", "a status", status)
    if flaky:
        if wanted not in {None, HistoryStatus.FLAKY}:
            raise InvalidInputError(f"--flaky: --status is {status!r}.", remedy="Use one of the two options.")
        wanted = HistoryStatus.FLAKY
    with open_services() as services:
        page = services.builds.history.list_tests(project=project, status=wanted, before=before, limit=limit)
        check_project(services.builds, project, page.items)
    if as_json:
        print_json("builds tests", **page.model_dump(mode="json"))
        return
    rows = (
        (test.status.value, test.project, test.name, f"{test.failures} of {test.builds}", evidence_text(test))
        for test in page.items
    )
    empty = "No tests found. Tests that never failed: --status stable. To record JUnit results: lab builds ingest"
    print_table("Tests", ("status", "project", "test", "failed in", "evidence"), rows, empty=empty)
    if page.next_before is not None:
        print(f"More tests: --before {plain(page.next_before)}")


def print_tests(tests: Sequence[JudgedTest]) -> None:
    """Print one line for each failed test: its status (such as flaky) and the builds that show it; flaky tests first.

    If there are many tests, only the first ones are printed, and then the number of tests that were left out.
    """
    ordered = sorted(tests, key=lambda test: (test.status.value != "flaky", test.name))
    for test in ordered[:_MAX_PRINTED]:
        print(f"[Tests]    -> {plain(test.name)}: {plain(evidence_text(test))}", flush=True)
    if len(ordered) > _MAX_PRINTED:
        print(f"[Tests]    -> {len(ordered) - _MAX_PRINTED:,} more failed tests: lab builds tests", flush=True)


def evidence_text(test: JudgedTest) -> str:
    """Return one sentence with the status of a test (such as flaky or broken) and the builds that show it."""
    if not test.evidence:
        return "never failed"
    first, last = test.evidence[0], test.evidence[-1]
    earlier = "known flaky earlier; " if test.was_flaky and test.status.value != "flaky" else ""
    match test.status.value:
        case "flaky" if first is last:
            said = f"known flaky: it failed and passed in build {_named(first)}"
        case "flaky":
            said = f"known flaky: the same input {_outcome(first)}, {_outcome(last)}"
        case "broken":
            said = f"broken since build {_named(last)} ({_builds(test.streak)}); before, it {_outcome(first)}"
        case "fixed":
            seen = f", because it {_outcome(last)}" if last.is_inferred else ""
            said = f"fixed since build {_named(last)} ({_builds(test.streak)}){seen}; it failed in {_named(first)}"
        case "failing":
            said = f"no recorded build passed it: {test.failures} of {test.builds} failed since build {_named(first)}"
        case _:
            said = f"changing: {_outcome(first)}, {_outcome(last)}"
    return earlier + said


def _outcome(evidence: HistoryEvidence) -> str:
    """Return the outcome of a test in a build as text.

    If a build succeeded and its log does not name the test, the test counts as passed. The text then says so.
    """
    if evidence.is_inferred:
        return f"counts as passed in build {_named(evidence)}, which succeeded and whose log does not name it"
    return f"{evidence.outcome.value} in build {_named(evidence)}"


def _named(evidence: HistoryEvidence) -> str:
    place = " ".join(part for part in (evidence.job, evidence.branch) if part)
    return f"{evidence.build_id} ({place})" if place else evidence.build_id


def _builds(count: int) -> str:
    return "1 build" if count == 1 else f"{count:,} builds"
