"""`lab metrics`: print the overview of the latest agent runs."""

from __future__ import annotations

from typing import Annotated

import typer

from relab.cli.output import JsonOption, print_json, print_table


def overview(
    hours: Annotated[float, typer.Option(min=0.001, max=10_000_000, help="Length of the window that ends now.")] = 24.0,
    as_json: JsonOption = False,
) -> None:
    """Show figures of the runs that started in the last hours: success rate, latency, cost, failing tools."""
    from relab.cli.context import open_services

    with open_services() as services:
        figures = services.telemetry.overview(hours)
    if as_json:
        print_json("metrics", hours=hours, **figures.model_dump(mode="json"))
        return
    p95 = figures.p95_step_latency_ms
    rows: list[tuple[str, object]] = [
        ("runs", figures.total_runs),
        ("success rate", None if figures.success_rate is None else f"{figures.success_rate} %"),
        ("P95 step latency", None if p95 is None else f"{p95:,.0f} ms"),
        ("cost", f"{figures.total_cost_usd:,.4f} USD"),
    ]
    rows += [(f"failing tool {tool.tool}", tool.count) for tool in figures.top_failing_tools]
    print_table(f"Last {hours:g} hours", ("figure", "value"), rows)
