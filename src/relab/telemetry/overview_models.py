"""The values of the overview: figures over all runs that started in a window of time."""

from __future__ import annotations

from pydantic import BaseModel, Field

from relab.telemetry.outcome_models import RunOutcome


class FailingTool(BaseModel):
    """The name of a tool, and how many of its calls failed."""

    tool: str
    count: int


class TokenSums(BaseModel):
    """The sums of tokens over all runs, by kind of token; null for a kind that no run reports."""

    prompt: int | None
    cached: int | None = Field(description="The prompt tokens that were read from a cache.")
    cache_write: int | None = Field(description="The prompt tokens that were written to a cache.")
    completion: int | None
    reasoning: int | None = Field(description="The completion tokens that are reasoning.")


class MetricsOverview(BaseModel):
    """The figures of `GET /metrics/overview`, over the runs that started in a window of whole minutes.

    `success_rate` is the percentage of succeeded runs among the runs with a known outcome; null if there is no such
    run. `p95_step_latency_ms` is the 95th percentile (nearest rank): exact for up to 2,000 steps, and with an error of
    up to 1 % for more.
    """

    total_runs: int
    success_rate: float | None
    top_failing_tools: list[FailingTool]
    p95_step_latency_ms: float | None
    total_cost_usd: float | None = Field(description="The sum of the costs that were reported; null if none was.")
    outcomes: dict[RunOutcome, int]
    runs_without_cost: int = Field(description="Runs without a reported cost, which `total_cost_usd` leaves out.")
    estimated_cost_usd: float | None = Field(description="Relab's estimates for runs without a reported cost, or null.")
    prices_as_of: str | None = Field(description="The date of the oldest price in `estimated_cost_usd`.")
    runs_without_estimate: int = Field(description="Runs without a reported cost and without an estimate.")
    tokens: TokenSums
    unprojected_runs: int = Field(0, description="Runs that have arrived and are not in these figures yet.")
