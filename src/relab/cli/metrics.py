"""`lab metrics`: print the overview of the latest agent runs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from relab.cli.context import open_services
from relab.cli.cost_text import token_text, usd_text
from relab.cli.output import JsonOption, print_json, print_table

if TYPE_CHECKING:
    from relab.telemetry.overview_models import MetricsOverview


def overview(
    hours: Annotated[float, typer.Option(min=0.001, max=10_000_000, help="Length of the window that ends now.")] = 24.0,
    as_json: JsonOption = False,
) -> None:
    """Show figures of the runs that started in the last 24 hours, or in --hours.

    The figures are success rate, latency, cost and failing tools.
    """
    with open_services() as services:
        figures = services.telemetry.overview(hours)
        has_worker = not figures.unprojected_runs or services.queue.worker_lives()
    if as_json:
        print_json("metrics", hours=hours, **figures.model_dump(mode="json"))
        return
    p95 = figures.p95_step_latency_ms
    rows: list[tuple[str, object]] = [
        ("runs", figures.total_runs),
        ("success rate", None if figures.success_rate is None else f"{figures.success_rate} %"),
        *((f"runs with the outcome: {outcome.label}", count) for outcome, count in figures.outcomes.items()),
        ("P95 step latency", None if p95 is None else f"{p95:,.0f} ms"),
        ("cost", _cost(figures)),
        ("estimated cost", _estimate(figures)),
        ("tokens, prompt + completion", token_text(figures.tokens.model_dump())),
    ]
    rows += [(f"failed calls of {tool.tool}", tool.count) for tool in figures.top_failing_tools]
    print_table(f"Runs that started in the last {hours:,.10g} hours", ("figure", "value"), rows)
    if figures.unprojected_runs:
        print(
            f"Runs that arrived and are not in these figures yet: {figures.unprojected_runs:,}. "
            + (
                "Run the command again in a few seconds."
                if has_worker
                else "No worker is running to add them: start one, or run lab agent-runs remap."
            )
        )


def _cost(figures: MetricsOverview) -> str | None:
    """Return the sum of the reported costs as text; None if no run reports a cost."""
    if figures.total_cost_usd is None:
        return None
    unknown = figures.runs_without_cost
    return usd_text(figures.total_cost_usd) + (
        f" ({unknown:,} of {figures.total_runs:,} runs without a reported cost)" if unknown else ""
    )


def _runs(number: int) -> str:
    return "1 run" if number == 1 else f"{number:,} runs"


def _estimate(figures: MetricsOverview) -> str | None:
    """Return the estimated cost of the runs without a reported cost, as text; None if there is no estimate."""
    if figures.estimated_cost_usd is None:
        return None
    unknown = figures.runs_without_estimate
    runs = figures.runs_without_cost - unknown
    return f"{usd_text(figures.estimated_cost_usd)} ({_runs(runs)}, prices of {figures.prices_as_of}" + (
        f"; {_runs(unknown)} without any cost)" if unknown else ")"
    )
