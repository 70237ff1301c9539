"""`lab builds groups`: failed builds that share a cause."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from relab.cli.builds.projects import check_project
from relab.cli.context import open_services
from relab.cli.output import JsonOption, plain, print_json, print_table

if TYPE_CHECKING:
    from relab.builds.service import Build, BuildService


def groups(
    project: Annotated[str | None, typer.Argument(help="Only builds of the project with this name.")] = None,
    before: Annotated[
        str | None,
        typer.Option(help="To list the next page: the value of --before that the previous page printed at its end."),
    ] = None,
    limit: Annotated[int, typer.Option(min=1, max=1_000)] = 50,
    as_json: JsonOption = False,
) -> None:
    """List groups of builds that failed for the same cause; the group with the newest build comes first.

    A group "goes on" (its cause is still present) if the newest build of at least one of the group's projects is in the
    group.
    """
    from relab.core.clock import format_time

    with open_services() as services:
        page = services.builds.groups.list_groups(project=project, before=before, limit=limit)
        check_project(services.builds, project, page.items)
    if as_json:
        print_json("builds groups", **page.model_dump(mode="json"))
        return
    rows = (
        (
            item.last_build,
            item.count,
            format_time(item.first_at),
            format_time(item.last_at),
            "yes" if item.goes_on else "no",
            ", ".join(item.projects),
            item.line,
        )
        for item in page.items
    )
    columns = ("last build", "builds", "first failure", "last failure", "still fails", "projects", "cause")
    print_table("Builds that failed in the same way", columns, rows, empty="No failed builds found.")
    if page.next_before is not None:
        print(f"More groups: --before {plain(page.next_before)}")


def recurrence_text(builds: BuildService, build: Build) -> str | None:
    """Return a sentence that says how many builds have failed for the same cause as `build`.

    None if `build` is the first one, or if its cause is not known.
    """
    from relab.core.clock import format_time

    found = builds.groups.recurrence(build)
    if found is None or found.count < 2:
        return None
    return f"the {ordinal(found.count)} build that failed this way since {format_time(found.since)}"


def print_recurrence(builds: BuildService, build: Build) -> None:
    """Print how many builds have failed for the same cause as `build`.

    Print nothing if `build` is the first one, or if its cause is not known.
    """
    text = recurrence_text(builds, build)
    if text is not None:
        print(f"[Monitor]  -> {text}: {plain(build.failure_line)}", flush=True)


def ordinal(number: int) -> str:
    """Return a positive number as English ordinal digits: 1st, 2nd, 3rd, 4th, 11th, 21st."""
    is_teen = number % 100 in {11, 12, 13}
    suffix = "th" if is_teen else {1: "st", 2: "nd", 3: "rd"}.get(number % 10, "th")
    return f"{number:,}{suffix}"
