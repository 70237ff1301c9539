"""The values that all trials of a run share, as plain data, so that trials can run in other processes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from relab.core.clock import Clock
from relab.experiments.config.models import ExperimentConfig
from relab.experiments.models import Keep
from relab.experiments.trial.checkpoints import ForkSource
from relab.experiments.workspace.snapshots import ProjectSnapshot

if TYPE_CHECKING:
    from relab.telemetry.prices.models import PriceTable


@dataclass(frozen=True, kw_only=True)
class RunSettings:
    """The values of a run that are known before the folder of the run exists.

    Attributes:
        config: the experiment, with the sandbox and the network mode in effect.
        root: the project's folder.
        clock: the source of the times in documents and rows.
        host_environment: the runner's environment variables; harnesses get only the ones that the experiment names.
        secrets: `{name: value}` of the harness's secrets.
    """

    config: ExperimentConfig
    run_id: str
    root: Path
    clock: Clock
    host_environment: Mapping[str, str]
    secrets: Mapping[str, str]


@dataclass(frozen=True, kw_only=True)
class RunContext(RunSettings):
    """The values that all trials of a run share.

    Attributes:
        run_dir: the folder of the run.
        snapshot: the snapshot of the project that trials start from.
        dataset: the folder of the run's copy of the data set.
        harness_identity: the digests that identify the harness, from the run's manifest.
        keep: which workspaces are kept after their trial.
        forks: `{trial id: parent and checkpoint}` of the trials that begin at a checkpoint of an earlier trial
            (parent).
        stored_result_bytes: the size limit, in bytes, of a trial's result for the result cache. A larger result is not
            cached. 0 to cache no results.
        prices: the prices of models, to estimate the cost of trials whose spans report tokens but no cost; None for no
            estimates.
    """

    run_dir: Path
    snapshot: ProjectSnapshot
    dataset: Path
    harness_identity: Mapping[str, Any]
    keep: Keep = Keep.ALL
    forks: Mapping[str, ForkSource] = field(default_factory=dict)
    stored_result_bytes: int = 0
    prices: PriceTable | None = None
