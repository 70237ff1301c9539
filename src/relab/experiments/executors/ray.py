"""The executor that runs trials as tasks of a Ray cluster. Ray is an extra, and is imported inside functions only.

This module runs on the machine of `lab run`. One thread per trial sends the trial to a node, receives the stream of
items about it (`ray_messages.py`), and unpacks the trial's files into the run's folder. `ray_node.py` runs on the
nodes.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import threading
import time
import uuid
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, Final

import relab
from relab.core.atomic_files import is_disk_full
from relab.core.errors import RelabError
from relab.experiments.config.paths import DATASET_PACKS, LAB
from relab.experiments.errors import (
    ArchiveInvalidError,
    ExecutorUnavailableError,
    SandboxUnavailableError,
    TrialStopped,
)
from relab.experiments.executors import ray_node
from relab.experiments.executors.local import sandbox_options
from relab.experiments.executors.protocol import ExecutorOptions
from relab.experiments.executors.ray_connection import check_fits, connect, resources, sentence
from relab.experiments.executors.ray_files import unpack_trial
from relab.experiments.executors.ray_messages import (
    NodeRun,
    Shipment,
    TrialBegun,
    TrialOrder,
    TrialReport,
)
from relab.experiments.executors.ray_requests import RequestSender
from relab.experiments.models import ErrorType, TrialOutcome, TrialResult
from relab.experiments.plan.trials import Trial
from relab.experiments.sandbox.stale_processes import end_stale_processes
from relab.experiments.trial.context import RunContext
from relab.experiments.trial.pausing import REQUEST
from relab.experiments.trial.preparing import pack_path
from relab.experiments.trial.redaction import Redactor
from relab.experiments.trial.resuming import resumable
from relab.experiments.trial.rows import make_row
from relab.experiments.trial.setup_command import run_setup
from relab.experiments.trial.trial_folder import INPUT, TrialFolder, trial_folder
from relab.experiments.workspace.archives import pack
from relab.experiments.workspace.snapshots import ProjectSnapshot
from relab.experiments.workspace.untrusted_files import write_new

MAX_LOSSES: Final = 3
"""How often a trial is started again after its node or worker was lost: the trial itself may have ended them."""
_INLINE_BYTES: Final = 65_536
"""The largest archive that is sent with a trial; a larger one is an object of Ray, which a node fetches."""
_LOOK_S: Final = 0.25
_PATIENCE_S: Final = 10.0
"""How long to wait for a node to end a trial, or to delete its files."""


class _NodeFilesError(Exception):
    """The files of a trial could not be created, read or deleted on its node, for example because its disk is full."""


class RayExecutor:
    """Runs trials on the nodes of a Ray cluster.

    The cluster's address is in the options or, if it is None there, in the environment variable `RAY_ADDRESS`. If both
    are unset, Ray is started on this machine, on loopback addresses only.
    """

    def __init__(self, options: ExecutorOptions) -> None:
        settings = options.settings
        self._settings = settings
        self._address = os.environ.get("RAY_ADDRESS") or None if options.address is None else options.address
        self._stop = options.stop
        self._on_spans = options.on_spans
        self._redactor = Redactor(settings.secrets)
        self._session = uuid.uuid4().hex
        self._image_digest: str | None = None
        self._context: RunContext | None = None
        self._run: list[Any] = []
        self._task: Any = None
        self._packs: dict[str, Shipment] = {}
        self._lock = threading.Lock()
        self._requests = RequestSender(self._session, options.stop)
        self._nodes: set[str] = set()
        self._is_connected = self._owns_connection = False
        self._threads = ThreadPoolExecutor(self.capacity, thread_name_prefix="trial")

    @property
    def capacity(self) -> int:
        """The largest number of trials that are sent at the same time: `design.max_concurrency` of the experiment."""
        return self._settings.config.design.max_concurrency

    @property
    def image_digest(self) -> str | None:
        """The digest of the trials' container image, on the node that `prepare` checked.

        None before `prepare`, and if trials run without an image.
        """
        return self._image_digest

    def prepare(self, run_dir: Path) -> None:
        """Connect to the cluster, and check on one node that trials can run there.

        Raises:
            ExecutorUnavailableError: Ray is missing, the cluster cannot be reached, or no node is suitable.
            ExperimentInvalidError: the address of the cluster has another form than `auto` or HOST:PORT.
            SandboxUnavailableError: a node cannot provide the sandbox.
        """
        if run_dir.exists():
            # The run may have been started with the local executor.
            end_stale_processes(run_dir)
        self._owns_connection = connect(self._address)
        self._is_connected = True
        import ray

        config = self._settings.config
        check_fits(config)
        check = ray.remote(ray_node.check_node).options(max_retries=MAX_LOSSES, name="relab.check_node")
        reference = check.remote(config, self._settings.run_id, relab.__version__)
        try:
            self._image_digest = ray.get(reference)
        except ray.exceptions.RayTaskError as error:
            if isinstance(error.cause, RelabError):
                raise error.cause from error
            raise ExecutorUnavailableError(
                f"A node of the Ray cluster cannot run trials: {str(error).strip().splitlines()[-1][:300]}",
                remedy=f"Install relab {relab.__version__} on all nodes.",
            ) from error
        except ray.exceptions.RayError as error:
            raise ExecutorUnavailableError(f"No node of the Ray cluster answers: {sentence(error)}") from error

    def run_setup(self, command: str, snapshot: ProjectSnapshot) -> ProjectSnapshot:
        """Run a shell command in a copy of the project, on this machine; return a snapshot of the result.

        Raises:
            ExperimentInvalidError: the command failed.
            KeyboardInterrupt: the stop switch was pressed twice.
            SandboxUnavailableError: this machine cannot provide the sandbox.
        """
        config = self._settings.config
        sandbox = config.runtime.sandbox.mode.kind.make(sandbox_options(config, f"{self._settings.run_id}-setup"))
        sandbox.prepare()
        try:
            return run_setup(command, self._settings, sandbox, snapshot, self._redactor, self._stop.now)
        finally:
            sandbox.close()

    def open(self, context: RunContext) -> None:
        """Put the values that all trials share into Ray's object store; trials can be submitted afterwards."""
        import ray

        passed = context.config.runtime.harness.environment.passed
        self._context = context
        run = NodeRun(
            session=self._session,
            run_id=context.run_id,
            run_dir=context.run_dir,
            version=relab.__version__,
            config=context.config,
            environment={name: context.host_environment[name] for name in passed if name in context.host_environment},
            harness_identity=context.harness_identity,
            keep=context.keep,
            stored_result_bytes=context.stored_result_bytes,
            prices=context.prices,
            image_digest=self._image_digest,
            snapshot_digest=context.snapshot.manifest.digest,
            snapshot=self._shipment(context.snapshot.root),
            dataset=self._shipment(context.dataset),
        )
        self._run = [ray.put(run)]
        self._task = ray.remote(ray_node.run_trial).options(
            # If Ray repeated the task, items of two attempts could mix. So this module sends a lost trial again.
            max_retries=0,
            num_returns="streaming",
            name="relab.run_trial",
            **resources(context.config),
        )
        self._requests.start()

    def submit(self, trial: Trial) -> Future[TrialResult]:
        """Send a trial to the Ray cluster; return the future of its result."""
        assert self._context is not None, "the executor is not open"
        return self._threads.submit(self._run_trial, trial, self._context)

    def close(self) -> None:
        """Wait for the running trials, delete the run's files on the nodes, and disconnect from the cluster."""
        self._threads.shutdown(cancel_futures=True)
        self._requests.close()
        if not self._is_connected:
            return
        self._is_connected = False
        import ray

        try:
            with contextlib.suppress(ray.exceptions.RayError):
                self._leave_nodes()
        finally:
            self._run = []
            self._packs.clear()
            if self._owns_connection:
                ray.shutdown()

    def _run_trial(self, trial: Trial, context: RunContext) -> TrialResult:
        if self._stop.finish.is_set():
            raise TrialStopped
        folder = trial_folder(context.run_dir, trial.ids.trial_id)
        order = self._order(trial, context, folder)
        try:
            for _ in range(MAX_LOSSES + 1):
                loss = self._attempt(order, context, folder)
                if not isinstance(loss, str):
                    return loss
            message = f"its node or worker was lost {MAX_LOSSES + 1} times; the last time: {loss}"
            return self._lost(trial, context, folder, ErrorType.NODE_LOST, message)
        except (SandboxUnavailableError, ExecutorUnavailableError) as error:
            return self._lost(trial, context, folder, ErrorType.SANDBOX, str(error))
        except (ArchiveInvalidError, _NodeFilesError) as error:
            return self._lost(trial, context, folder, ErrorType.WORKSPACE, str(error))
        except OSError as error:
            if is_disk_full(error):
                raise
            return self._lost(trial, context, folder, ErrorType.WORKSPACE, str(error))
        finally:
            self._requests.remove(trial.ids.trial_id)
            (folder.root / REQUEST).unlink(missing_ok=True)

    def _order(self, trial: Trial, context: RunContext, folder: TrialFolder) -> TrialOrder:
        paused = self._shipment(folder.root) if resumable(folder) is not None else None
        folder.clear()
        previous = {}
        if trial.previous_id is not None:
            before = trial_folder(context.run_dir, trial.previous_id)
            for part in (before.workspace, before.state):
                if part.is_dir():
                    previous[part.name] = self._shipment(part)
        packs = {}
        for path in map(pack_path, trial.task.mounts):
            source = context.root / LAB / DATASET_PACKS / path
            with self._lock:
                if path not in self._packs and source.is_dir():
                    self._packs[path] = self._shipment(source)
                if path in self._packs:
                    packs[path] = self._packs[path]
        fork = context.forks.get(trial.ids.trial_id)
        checkpoint = None
        if fork is not None and fork.file is not None:
            checkpoint = self._shipment(fork.parent_dir, only=fork.file.stored)
        return TrialOrder(
            trial=trial,
            secrets=context.secrets,
            paused=paused,
            previous=previous,
            fork=fork,
            checkpoint=checkpoint,
            packs=packs,
        )

    def _attempt(self, order: TrialOrder, context: RunContext, folder: TrialFolder) -> TrialResult | str:
        """Run a trial on a node; return its result or, if the node or its worker was lost, a sentence about the loss.

        Args:
            order: the trial, with the archives that the node needs.
            context: the values that all trials of the run share.
            folder: the trial's folder on this machine, which gets the files that the node returns.

        Raises:
            TrialStopped: the run was stopped, or the trial was paused.
            _NodeFilesError: a file of the trial could not be used on the node, for example because its disk is full.
            RelabError, OSError: the trial failed without a result, or its files cannot be written on this machine.
        """
        import ray

        stream = self._task.remote(self._run, self._session, order)
        try:
            begun = self._next(stream, is_running=False)
            assert isinstance(begun, TrialBegun)
            self._begin(begun, folder)
            report = self._next(stream, is_running=True)
            assert isinstance(report, TrialReport)
            if report.archive is not None:
                rest = iter(lambda: self._next(stream, is_running=True), None)
                unpack_trial(report, itertools.chain([report.archive], rest), context, folder, self._on_spans)
        except ray.exceptions.RayTaskError as error:
            raise error.cause if isinstance(error.cause, RelabError) else error from error
        except (ray.exceptions.RayError, StopIteration) as error:
            # A worker or a node was lost.
            folder.clear()
            return sentence(error)
        if isinstance(report.failure, OSError):
            raise _NodeFilesError(f"on the node {report.failure.strerror}")
        if report.failure is not None:
            raise report.failure
        assert report.result is not None
        return report.result

    def _next(self, stream: Any, *, is_running: bool) -> Any:
        """Wait for the next item that the node of a trial sends, and return the item.

        Args:
            stream: the items that the node sends: a `TrialBegun`, a `TrialReport`, and chunks of an archive as bytes.
            is_running: whether the trial has begun (its `TrialBegun` has arrived). If the run is stopped, a trial that
                has begun is cancelled only after `_PATIENCE_S` seconds, and any other trial at once.

        Raises:
            StopIteration: the stream has ended.
            TrialStopped: the run was stopped, and the trial was cancelled.
        """
        import ray

        give_up = None
        while not ray.wait([stream], timeout=_LOOK_S)[0]:
            if not (self._stop.now if is_running else self._stop.finish).is_set():
                continue
            give_up = time.monotonic() + _PATIENCE_S if give_up is None else give_up
            if not is_running or time.monotonic() > give_up:
                ray.cancel(stream, force=is_running)
                raise TrialStopped
        return ray.get(next(stream))

    def _begin(self, begun: TrialBegun, folder: TrialFolder) -> None:
        """Create the folder of a trial that has begun on a node, so that `lab pause` finds it."""
        folder.root.mkdir(parents=True, exist_ok=True)
        write_new(folder.root / INPUT, b"{}\n")
        with self._lock:
            self._nodes.add(begun.node_id)
        self._requests.add(folder)

    def _lost(
        self, trial: Trial, context: RunContext, folder: TrialFolder, kind: ErrorType, message: str
    ) -> TrialResult:
        folder.clear()
        problem = (kind.value, self._redactor.text(message))
        row = make_row(context.config, trial, TrialOutcome.ERROR, problem, attempts=1)
        return TrialResult(row, None, {"row": row.to_json()})

    def _shipment(self, folder: Path, only: str | None = None) -> Shipment:
        """Pack a folder, or only the file or folder `only` in it, into an archive for the nodes.

        Return the archive in chunks: a small archive as bytes, a large archive as references to Ray's object store.
        """
        import ray

        chunks = pack(folder, self._settings.root / LAB, only=only)
        first = next(chunks)
        return [first] if len(first) <= _INLINE_BYTES else [ray.put(first), *map(ray.put, chunks)]

    def _leave_nodes(self) -> None:
        import ray
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        alive = {node["NodeID"] for node in ray.nodes() if node["Alive"]}
        leave = ray.remote(ray_node.leave_node)
        leaving = [
            leave.options(
                max_retries=0,
                num_cpus=0,
                name="relab.leave_node",
                scheduling_strategy=NodeAffinitySchedulingStrategy(node_id, soft=False),
            ).remote(self._session, self._settings.run_id, self._settings.config)
            for node_id in self._nodes & alive
        ]
        if leaving:
            ray.wait(leaving, num_returns=len(leaving), timeout=_PATIENCE_S)
