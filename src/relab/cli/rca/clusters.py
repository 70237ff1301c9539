"""`lab rca clusters`: failed runs that share a cause."""

from __future__ import annotations

from typing import Annotated, Final

import typer

from relab.cli.agent_runs.filters import moment_us
from relab.cli.choices import choice_of
from relab.cli.context import open_services
from relab.cli.output import JsonOption, argument, plain, print_json

MAX_LINE_CHARS: Final = 160


def clusters(
    agent: Annotated[str | None, typer.Option(help="Only runs of the agent with this name.")] = None,
    category: Annotated[str | None, typer.Option(help="Only failures of this category, such as timeout.")] = None,
    since: Annotated[
        str | None,
        typer.Option(help="Only runs that started at or after a time (2024-01-15T10:30:00Z) or an age (7d)."),
    ] = None,
    limit: Annotated[int, typer.Option(min=1, max=500, help="Number of clusters to show.")] = 20,
    cursor: Annotated[str | None, typer.Option(help="The cursor that the previous page printed.")] = None,
    as_json: JsonOption = False,
) -> None:
    """List clusters of failed runs that share a cause; the cluster with the most runs comes first.

    For each run, only its newest analysis counts.
    """
    from relab.core.clock import format_time
    from relab.rca.models import Category

    wanted = choice_of(Category, "--category", "a category", category)
    with open_services() as services:
        page = services.rca.clusters.list(
            agent_name=agent,
            category=wanted,
            since_us=moment_us("--since", since, services.clock.now_us()),
            cursor=cursor,
            limit=limit,
        )
    if as_json:
        print_json("rca clusters", **page.model_dump(mode="json"))
        return
    if not page.runs:
        print("No analysed failed runs found. To analyse the failed runs: lab rca run --all")
        return
    print(f"{page.runs:,} failed runs in {page.clusters:,} clusters.")
    for item in page.items:
        print(f"\n{plain(' '.join(item.sentence.split()))}; last seen at {format_time(item.last_at)}")
        print(f"  {item.category}: {plain(' '.join(item.line.split()))[:MAX_LINE_CHARS]}")
        agents = ", ".join(item.agents[:5]) + (", …" if len(item.agents) > 5 else "")
        print(f"  agents: {plain(agents)[:MAX_LINE_CHARS]} · report: lab rca {argument(item.last_run)}")
    if page.next_cursor is not None:
        print(f"\nThere are more clusters; continue with --cursor {plain(page.next_cursor)}.")
