"""Arguments and options of the commands that run trials, such as limits of a run and the choice of files to keep."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from relab.cli.choices import choice_of

if TYPE_CHECKING:
    from relab.experiments.models import Keep

ContinueOption = Annotated[
    Path | None,
    typer.Option(
        "--continue",
        "--resume",
        help="Continue a run (its folder or id), or a set of experiments, that was interrupted or killed: only trials without a result are run.",
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
    float | None,
    typer.Option(
        help="Stop cleanly once all attempts cost so much: cost_usd, or estimated_cost_usd of attempts without it; 0 for no ceiling."
    ),
]
MaxSecondsOption = Annotated[
    float | None,
    typer.Option(help="Stop cleanly once the run has taken so long, with its earlier sessions; 0 for no ceiling."),
]
MaxFirstErrorsOption = Annotated[
    int | None,
    typer.Option(
        help="Stop cleanly if the first so many trials of this command all end in the same error (10 by default); 0 for no ceiling."
    ),
]
ResultCacheOption = Annotated[
    bool | None,
    typer.Option(
        "--result-cache/--no-result-cache",
        help="Take results of equal trials from the cache of the project, or run all; by default as in the experiment file.",
    ),
]
ExperimentArgument = Annotated[Path, typer.Argument(help="The experiment file.")]
OverridesOption = Annotated[
    Path | None, typer.Option(help="A file with values for knobs, such as .lab/knobs/overrides.json.")
]
QuietOption = Annotated[bool, typer.Option("--quiet", "-q", help="Show no progress.")]
KeepOption = Annotated[
    str, typer.Option("--keep-workspaces", help="all | failed | none: which trials' workspaces are kept after the run.")
]
ExecutorOption = Annotated[
    str, typer.Option(help="local | ray: where the trials run; --continue does not remember it.")
]
AddressOption = Annotated[
    str | None,
    typer.Option(
        help="With --executor ray: the cluster, as HOST:PORT or `auto`. Without it RAY_ADDRESS, else Ray on this machine."
    ),
]
NoTelemetryOption = Annotated[bool, typer.Option("--no-telemetry", help="Do not record trials as agent runs.")]
DEFAULT_KEEP = "all"
DEFAULT_EXECUTOR = "local"
DEFAULT_EXPERIMENT = Path(".lab/experiment.yaml")


def ceilings_of(
    max_trials: int | None, max_cost_usd: float | None, max_seconds: float | None, max_first_errors: int | None
) -> dict[str, float]:
    """Return the limits of a run that the user gave (not None), as `{name of the argument: limit}`."""
    asked = {
        "max_trials": max_trials,
        "max_cost_usd": max_cost_usd,
        "max_seconds": max_seconds,
        "max_first_errors": max_first_errors,
    }
    return {name: value for name, value in asked.items() if value is not None}


def keep_of(text: str) -> Keep:
    """Return the value of the option `--keep-workspaces` as a `Keep`: which workspaces are kept.

    Raises:
        InvalidInputError: the text is not a value of this option.
    """
    from relab.experiments.models import Keep

    return choice_of(Keep, "--keep-workspaces", "a choice", text)
