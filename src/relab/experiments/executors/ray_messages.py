"""The messages between the machine of `lab run` and the nodes of a Ray cluster; every value can be pickled."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from relab.experiments.config.models import ExperimentConfig
from relab.experiments.models import Keep, TrialResult
from relab.experiments.plan.trials import Trial
from relab.experiments.trial.checkpoints import ForkSource

if TYPE_CHECKING:
    from relab.telemetry.prices.models import PriceTable

Shipment = Sequence[Any]
"""An archive: its chunks, each as bytes or as a reference to an object of Ray."""


@dataclass(frozen=True, kw_only=True)
class NodeRun:
    """The values that all trials of a run share, as they are sent to the nodes, without secrets.

    Attributes:
        session: the id of the process of `lab run`.
        run_id: the id of the run.
        run_dir: the run's folder on the machine of `lab run`.
        version: the version of relab on the machine of `lab run`.
        config: the experiment.
        environment: the variables of the runner's environment that the harness gets, with their values.
        harness_identity: the digests that identify the harness.
        keep: which workspaces are kept after their trial.
        stored_result_bytes: the largest size of a result that a trial writes for the result cache; 0 to write none.
        prices: the prices of models on the machine of `lab run`, to estimate the cost of trials; None for no estimates.
        image_digest: the digest of the container image that trials run in; None if trials run without an image.
        snapshot_digest: the digest of the project's snapshot.
        snapshot: the archive of the project's snapshot.
        dataset: the archive of the data set's folder.
    """

    session: str
    run_id: str
    run_dir: Path
    version: str
    config: ExperimentConfig
    environment: Mapping[str, str]
    harness_identity: Mapping[str, Any]
    keep: Keep
    stored_result_bytes: int
    prices: PriceTable | None
    image_digest: str | None
    snapshot_digest: str
    snapshot: Shipment
    dataset: Shipment


@dataclass(frozen=True, kw_only=True)
class TrialOrder:
    """The request to a node to run one trial.

    Attributes:
        trial: the trial.
        secrets: `{name: value}` of the harness's secrets.
        paused: the archive of the paused trial's folder, to resume the trial; None if the trial was not paused.
        previous: `{"workspace" or "state": archive}` of the earlier trial that this trial continues from; empty if the
            trial starts from the project's snapshot.
        fork: the parent (earlier trial) and the checkpoint from which a fork begins; None if the trial is not a fork.
        checkpoint: the archive of the parent's folder with only the checkpoint in it; None without a checkpoint.
        packs: `{path below .lab/dataset_packs: archive}` of the data set packs that the task reads.
    """

    trial: Trial
    secrets: Mapping[str, str] = field(repr=False)
    paused: Shipment | None = None
    previous: Mapping[str, Shipment] = field(default_factory=dict)
    fork: ForkSource | None = None
    checkpoint: Shipment | None = None
    packs: Mapping[str, Shipment] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class TrialBegun:
    """The first item that a node sends for a trial: a worker on the node `node_id` has begun to run the trial."""

    node_id: str


@dataclass(frozen=True, kw_only=True)
class TrialReport:
    """The report of a node about a trial that it ran, with the first chunk of the archive of the trial's folder.

    A node sends three kinds of items for a trial: a `TrialBegun`, this report, and the other chunks of the archive.

    Attributes:
        result: the result of the trial; None if the trial was stopped or paused, or failed.
        failure: why the trial has no result; None if it has one.
        evidence: `{file name: content}` of the documents about the trial that belong in the run's store of documents.
        has_workspace: whether the trial's workspace is kept. The archive then has only those of its files that differ
            from the project's snapshot (the copy of the project that each workspace starts as).
        changed: the paths of the files of the project's snapshot that the trial deleted or changed.
        archive: the first chunk of the archive; None if there are no files to send.
    """

    result: TrialResult | None = None
    failure: Exception | None = None
    evidence: Mapping[str, bytes] = field(default_factory=dict)
    has_workspace: bool = False
    changed: Sequence[str] = ()
    archive: bytes | None = None
