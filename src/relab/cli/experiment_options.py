"""Options of the commands that run trials: where to continue, and what ends a run early."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

ContinueOption = Annotated[
    Path | None,
    typer.Option(
        "--continue",
        "--resume",
        help="Continue a run, or a set of experiments, that was interrupted or killed: only trials without a result are run.",
    ),
]
RetryErrorsOption = Annotated[
    bool,
    typer.Option(
        "--retry-errors", help="With --continue: run trials that ended in an error again; their files are kept."
    ),
]
MaxTrialsOption = Annotated[
    int | None, typer.Option(help="Stop cleanly once so many trials have a result; 0 for no ceiling.")
]
MaxCostOption = Annotated[
    float | None, typer.Option(help="Stop cleanly once all attempts cost so much (metric cost_usd); 0 for no ceiling.")
]
MaxSecondsOption = Annotated[
    float | None,
    typer.Option(help="Stop cleanly once the run has taken so long, with its earlier sessions; 0 for no ceiling."),
]


def ceilings_of(max_trials: int | None, max_cost_usd: float | None, max_seconds: float | None) -> dict[str, float]:
    """Return the ceilings of a run's budget that are given (not None), by name."""
    asked = {"max_trials": max_trials, "max_cost_usd": max_cost_usd, "max_seconds": max_seconds}
    return {name: value for name, value in asked.items() if value is not None}
