"""What a finished run says of itself: its configuration, its manifest, and which way its metrics should go."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Literal

import jiter
from pydantic import ValidationError

from relab.experiments.config import ExperimentConfig
from relab.experiments.errors import RunNotFoundError
from relab.experiments.folders import MANIFEST, RESOLVED, RUN_CONTROL
from relab.experiments.result_tables import TRIALS, tables_dir
from relab.experiments.seals import damaged
from relab.experiments.wire import sha256_of

Direction = Literal["maximize", "minimize"]

SUCCESS: Final = "success"
COMPLETED: Final = "completed"
"""The status in `run_control.json` of a run that has nothing left to do."""
STATUSES: Final = frozenset(("running", COMPLETED, "interrupted", "failed", "paused"))

_BETTER_HIGH: Final = frozenset(
    ("success", "accuracy", "acc", "score", "reward", "precision", "recall", "f1", "solved")
)
_BETTER_LOW: Final = frozenset(
    ("latency", "duration", "overhead", "ms", "seconds", "time", "cost", "usd", "price", "tokens", "loss", "error",
     "errors", "steps", "turns", "turn", "step", "retries", "attempts")
)  # fmt: skip
_MAX_OUTPUT_BYTES = 64 * 1_048_576


@dataclass(frozen=True)
class RunFacts:
    """A run as its folder has it.

    Attributes:
        manifest: `manifest.json`; empty if there is none.
        status: of the run, from `run_control.json`; None if there is none.
    """

    run_dir: Path
    config: ExperimentConfig
    manifest: Mapping[str, Any] = field(default_factory=dict)
    status: str | None = None

    @property
    def run_id(self) -> str:
        """The run's id, which is the name of its folder unless the manifest says otherwise."""
        return str(self.manifest.get("run_id", self.run_dir.name))

    @property
    def baseline(self) -> str:
        """The id of the baseline."""
        return self.config.baseline.variant_id

    @property
    def variants(self) -> list[str]:
        """The ids of all variants, the baseline first."""
        return [variant.variant_id for variant in self.config.variants]

    @property
    def is_trainer(self) -> bool:
        """Whether trials report objectives."""
        return self.config.experiment.workload_type == "trainer"

    @property
    def directions(self) -> dict[str, Direction]:
        """Which way metrics should go, as far as the configuration says so."""
        return {metric.id: metric.direction for metric in self.config.metrics if metric.direction is not None}

    @property
    def primary_metrics(self) -> list[str]:
        """The metrics of the question, without a trainer's objective, whose name only its trials know."""
        marked = [metric.id for metric in self.config.metrics if metric.primary]
        asked = self.config.analysis.primary_metrics
        if self.is_trainer and asked == [SUCCESS]:
            # That is the default; a trainer is asked about its objective.
            asked = []
        return list(dict.fromkeys([*asked, *marked]))

    @property
    def has_tables(self) -> bool:
        """Whether the tables were written, which is done after the last trial."""
        return (tables_dir(self.run_dir) / f"{TRIALS}.parquet").is_file()

    def planned_trials(self, tasks: int) -> int:
        """Return how many trials the plan has, given the number of tasks; the manifest's own figure wins."""
        said = self.manifest.get("ext", {}).get("total_trials")
        if isinstance(said, int):
            return said
        return len(self.variants) * self.config.design.replications * tasks


def read_facts(run_dir: Path) -> RunFacts:
    """Read what a run says of itself.

    Raises:
        RunNotFoundError: the folder is no run.
        RunDamagedError: a file of it is not what was written.
    """
    path = run_dir / RESOLVED
    if not path.is_file():
        raise RunNotFoundError(
            f"{run_dir} is no run of an experiment: it has no {RESOLVED}.",
            remedy="Give the folder of a run, such as .lab/runs/<run_id>.",
        )
    try:
        config = ExperimentConfig.model_validate_json(path.read_bytes())
    except ValidationError as error:
        problem = error.errors(include_url=False)[0]
        where = ".".join(map(str, problem["loc"])) or "the file"
        raise damaged(path, f"cannot be read: {where}: {problem['msg']}") from error
    manifest = _read_object(run_dir / MANIFEST)
    digest = manifest.get("resolved_experiment", {}).get("digest") if "ext" in manifest else None
    if digest is not None and sha256_of(jiter.from_json(path.read_bytes())) != digest:
        raise damaged(path, f"was changed since the run began: {MANIFEST} names another digest")
    return RunFacts(run_dir, config, manifest, _status(run_dir / RUN_CONTROL))


def _status(path: Path) -> str | None:
    """Return the status that a run wrote last; None for a folder without one."""
    if not path.is_file():
        return None
    status = _read_object(path).get("status")
    if status not in STATUSES:
        raise damaged(path, f"has the status {status!r}, which no run has")
    return str(status)


def direction_by_name(name: str) -> Direction | None:
    """Return which way a metric should go by the words of its name (`latency_ms`, `val_loss`); None if none tells."""
    words = set(re.split(r"[^a-z0-9]+", name.lower()))
    # A loss or an error is to be small, whatever else the name says.
    if words & _BETTER_LOW:
        return "minimize"
    return "maximize" if words & _BETTER_HIGH else None


def _read_object(path: Path) -> dict[str, Any]:
    if not path.is_file():
        return {}
    try:
        value = jiter.from_json(path.read_bytes())
    except ValueError as error:
        raise damaged(path, f"cannot be read: {error}") from error
    if not isinstance(value, dict):
        raise damaged(path, "holds no JSON object")
    return value
