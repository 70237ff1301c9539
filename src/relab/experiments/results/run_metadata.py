"""Read the data about a run as a whole from its folder: configuration, manifest, status, directions of metrics."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import jiter
from pydantic import ValidationError

from relab.core.json import digest
from relab.core.stored_documents import STORED
from relab.core.validation import plain_message
from relab.experiments.config.metric_directions import MetricDirection
from relab.experiments.config.models import ExperimentConfig
from relab.experiments.errors import RunNotFoundError, damaged
from relab.experiments.records.file_names import MANIFEST, RESOLVED, RUN_CONTROL
from relab.experiments.records.run_folder import current_status
from relab.experiments.results.result_tables import TRIALS, tables_dir

SUCCESS: Final = "success"
COMPLETED: Final = "completed"
"""The status in `run_control.json` of a run without a trial that is left to run."""
STATUSES: Final = frozenset(("running", COMPLETED, "interrupted", "failed", "paused", "budget_reached"))


@dataclass(frozen=True)
class RunFacts:
    """What the folder of a run records about the run as a whole.

    Attributes:
        run_dir: the folder.
        config: the configuration of the experiment, with all defaults and overrides.
        manifest: the content of `manifest.json`; empty if the file is missing.
        status: the status of the run, from `run_control.json`; None if the file is missing. If the file says `running`,
            but no process works on the run, the status is `interrupted`.
    """

    run_dir: Path
    config: ExperimentConfig
    manifest: Mapping[str, Any] = field(default_factory=dict)
    status: str | None = None

    @property
    def run_id(self) -> str:
        """The id of the run: the one in the manifest, or else the name of the folder."""
        return str(self.manifest.get("run_id", self.run_dir.name))

    @property
    def baseline(self) -> str:
        """The id of the baseline (the variant that the other variants are compared with), from the configuration."""
        return self.config.baseline.variant_id

    @property
    def variants(self) -> list[str]:
        """The ids of all variants, the baseline first."""
        return [variant.variant_id for variant in self.config.variants]

    @property
    def fork(self) -> Mapping[str, Any] | None:
        """The record of a run of forks (trials that begin at a checkpoint of an earlier trial); None for another run.

        It has the number of these earlier trials, the selector of their checkpoint, the changed bindings (values that
        the harness gets) and more.
        """
        found: Mapping[str, Any] | None = self.manifest.get("ext", {}).get("fork")
        return found

    @property
    def is_trainer(self) -> bool:
        """Whether the harness is a trainer: it trains a model, and its trials report the metric that it optimizes."""
        return self.config.experiment.workload_type == "trainer"

    @property
    def directions(self) -> dict[str, MetricDirection]:
        """Whether each metric should be high or low, as `{metric: "maximize" or "minimize"}`.

        Metrics without a configured direction are missing.
        """
        return {metric.id: metric.direction for metric in self.config.metrics if metric.direction is not None}

    @property
    def primary_metrics(self) -> list[str]:
        """The names of the primary metrics in the configuration.

        If the harness is a trainer (it trains a model), the default metric `success` is left out. The metric that the
        trainer optimizes is not included, because only its trials report it.
        """
        marked = [metric.id for metric in self.config.metrics if metric.primary]
        asked = self.config.analysis.primary_metrics
        if self.is_trainer and asked == [SUCCESS]:
            # `success` is the default; for a trainer the objective replaces it.
            asked = []
        return list(dict.fromkeys([*asked, *marked]))

    @property
    def has_tables(self) -> bool:
        """Whether the run has tables of its results. They are written when the run ends, is paused or is stopped."""
        return (tables_dir(self.run_dir) / f"{TRIALS}.parquet").is_file()

    def planned_trials(self, tasks: int) -> int:
        """Return the number of planned trials of the run.

        If forks are compared with their parents (the trials at whose checkpoints they begin), the parents also count.

        Args:
            tasks: the number of tasks of the run; used only if the manifest lacks the number of trials.
        """
        said = self.manifest.get("ext", {}).get("total_trials")
        if not isinstance(said, int):
            return len(self.variants) * self.config.design.replications * tasks
        return said if self.fork is None or self.fork["control"] else said + int(self.fork["parents"])

    def planned_of_variant(self, tasks: int) -> int:
        """Return the number of planned trials of each variant; `tasks` is the number of tasks of the run."""
        return tasks * self.config.design.replications if self.fork is None else int(self.fork["parents"])


def read_facts(run_dir: Path) -> RunFacts:
    """Read the data about a run as a whole from its folder.

    Raises:
        RunNotFoundError: the folder is not a run.
        RunDamagedError: one of its files cannot be read or was changed.
    """
    path = run_dir / RESOLVED
    if not path.is_file():
        raise RunNotFoundError(
            f"{run_dir} is not the folder of a run: it has no {RESOLVED}.",
            remedy="Give the folder of a run, such as .lab/runs/<run_id>.",
        )
    try:
        config = ExperimentConfig.model_validate_json(path.read_bytes(), context=STORED)
    except ValidationError as error:
        problem = error.errors(include_url=False)[0]
        where = ".".join(map(str, problem["loc"])) or "the file"
        raise damaged(path, f"cannot be read: {where}: {plain_message(problem['msg'])}") from error
    manifest = read_object(run_dir / MANIFEST)
    recorded = manifest.get("resolved_experiment", {}).get("digest") if "ext" in manifest else None
    if recorded is not None and digest(jiter.from_json(path.read_bytes())) != recorded:
        raise damaged(path, f"was changed since the run began: {MANIFEST} names another digest")
    stored = _status(run_dir / RUN_CONTROL)
    return RunFacts(run_dir, config, manifest, None if stored is None else current_status(run_dir, stored))


def _status(path: Path) -> str | None:
    """Return the status that a run wrote last into the file `path`; None if the file is missing.

    Raises:
        RunDamagedError: the file cannot be read, or has an unknown status.
    """
    if not path.is_file():
        return None
    status = read_object(path).get("status")
    if not isinstance(status, str) or status not in STATUSES:
        raise damaged(path, f"has the invalid status {status!r}")
    return status


def read_object(path: Path) -> dict[str, Any]:
    """Return the JSON object in a file of a run; empty if the file is missing.

    Raises:
        RunDamagedError: the file is not a JSON object.
    """
    if not path.is_file():
        return {}
    try:
        value = jiter.from_json(path.read_bytes())
    except ValueError as error:
        raise damaged(path, f"cannot be read: {error}") from error
    if not isinstance(value, dict):
        raise damaged(path, "is not a JSON object")
    return value
