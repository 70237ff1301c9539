"""The part of the Ray executor that runs on the nodes: each task of Ray runs one trial.

A node needs no file system in common with the machine of `lab run`: it gets the project's snapshot and the data set
once for each run, and sends the files of a trial back as an archive. Each worker process of Ray runs trials in a folder
of its own. Ray is imported inside functions only, because it is an extra.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import stat
import tempfile
import uuid
from collections.abc import Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import relab
from relab.core.clock import SystemClock
from relab.core.errors import RelabError
from relab.core.file_locks import file_lock
from relab.experiments.config.models import ExperimentConfig
from relab.experiments.config.paths import DATASET_PACKS, LAB
from relab.experiments.errors import ExecutorUnavailableError, SandboxUnavailableError, TrialPaused, TrialStopped
from relab.experiments.executors.local import sandbox_options
from relab.experiments.executors.ray_messages import (
    NodeRun,
    Shipment,
    TrialBegun,
    TrialOrder,
    TrialReport,
)
from relab.experiments.executors.ray_requests import requests_to
from relab.experiments.models import TrialResult
from relab.experiments.sandbox.protocol import Sandbox
from relab.experiments.sandbox.stale_processes import end_stale_processes
from relab.experiments.trial.checkpoints import ForkSource
from relab.experiments.trial.context import RunContext
from relab.experiments.trial.evidence import STORE, stored_documents
from relab.experiments.trial.network_services import TrialNetwork
from relab.experiments.trial.pausing import move_checkpoint
from relab.experiments.trial.redaction import Redactor
from relab.experiments.trial.runner import TrialRunner
from relab.experiments.trial.trial_folder import TrialFolder, trial_folder
from relab.experiments.workspace.archives import pack, unpack
from relab.experiments.workspace.snapshots import Clone, ProjectSnapshot, cached_snapshot, snapshot_folder
from relab.experiments.workspace.untrusted_trees import remove_tree

_MAX_SHIPPED_BYTES: Final = 1 << 50
"""No limit in effect: the machine of `lab run`, which sends these archives, is trusted."""

_workers: dict[str, _Worker] = {}
"""The worker of the last session, by its id; a worker process of Ray runs many trials."""


def check_node(config: ExperimentConfig, run_id: str, version: str) -> str | None:
    """Check that trials can run on this node; return the digest of the container image, None if trials run without one.

    Args:
        config: the experiment.
        run_id: the id of the run.
        version: the version of relab on the machine of `lab run`.

    Raises:
        ExecutorUnavailableError: this node has another version of relab.
        SandboxUnavailableError: the sandbox does not work on this node.
    """
    _check_version(version)
    sandbox = config.runtime.sandbox.mode.kind.make(sandbox_options(config, f"{run_id}-{uuid.uuid4().hex[:12]}"))
    try:
        sandbox.prepare()
        return sandbox.image_digest
    finally:
        sandbox.close()


def run_trial(run: Sequence[Any], session: str, order: TrialOrder) -> Iterator[TrialBegun | TrialReport | bytes]:
    """Run a trial on this node, and yield the items to send about it.

    The first item is a `TrialBegun`. The second is a `TrialReport`, with the first chunk of the archive of the trial's
    folder. The other items are the other chunks of the archive, as bytes.

    Args:
        run: the Ray reference to the `NodeRun` (values that all trials share), in a list of one item. Outside of a
            list, Ray would fetch the value for each trial.
        session: `NodeRun.session`, the id of the process of `lab run` that sends the trial.
        order: the trial to run.
    """
    import ray

    yield TrialBegun(node_id=ray.get_runtime_context().get_node_id())
    try:
        if session not in _workers:
            for worker in _workers.values():
                worker.close()
            _workers.clear()
            # The reference is in a list, because Ray would otherwise fetch the value for each trial.
            _workers[session] = _Worker(ray.get(run[0]), order.secrets)
        yield from _workers[session].run(order)
    except (RelabError, TrialStopped) as error:
        yield TrialReport(failure=error)
    except OSError as error:
        message = Redactor(order.secrets).text(f"{error.strerror or error}: {error.filename}")
        yield TrialReport(failure=OSError(error.errno, f"{os.uname().nodename}: {message}"))


def leave_node(session: str, run_id: str, config: ExperimentConfig) -> None:
    """End the processes that an invocation of `lab run` has left on this node, and delete its files on the node.

    No trial of this invocation may be running. Several invocations may work on a run (one begins it, others continue
    it), and they share some files on the node. These shared files are deleted only if no other invocation has a living
    worker on the node.

    Args:
        session: `NodeRun.session`, the id of the invocation that leaves.
        run_id: the id of the run.
        config: the experiment.
    """
    node = _node_folder()
    folder = node / run_id
    # A worker holds this lock while it begins, so no worker begins while the lock is held here.
    with file_lock(node.parent / "lock"):
        has_others = False
        for lock in folder.glob("workers/*.lock"):
            if lock.read_text() == session or not _is_held(lock):
                end_stale_processes(lock.with_suffix(""))
                remove_tree(lock.with_suffix(""))
                lock.unlink()
            else:
                has_others = True
        if has_others:
            return
        end_stale_processes(folder)
        with contextlib.suppress(RelabError):
            # A sandbox of the same run removes what the workers' sandboxes have left.
            sandbox = config.runtime.sandbox.mode.kind.make(sandbox_options(config, run_id))
            sandbox.prepare()
            sandbox.close()
        remove_tree(folder)
        with contextlib.suppress(OSError):
            # Another run may use the node.
            node.rmdir()


class _Worker:
    """Runs the trials that one process of `lab run` sends to this worker process of Ray.

    Raises:
        ExecutorUnavailableError, SandboxUnavailableError: trials cannot run on this node.
        OSError: the disk of the node is full, or its temporary folder is not safe.
    """

    def __init__(self, run: NodeRun, secrets: Mapping[str, str]) -> None:
        _check_version(run.version)
        self._run = run
        self._folder = _node_folder() / run.run_id
        name = uuid.uuid4().hex[:12]
        run_dir = self._folder / "workers" / name
        with file_lock(_node_folder().parent / "lock"):
            self._end_dead_workers()
            run_dir.mkdir(parents=True)
            self._lock = run_dir.with_suffix(".lock").open("w")
            fcntl.flock(self._lock, fcntl.LOCK_EX)
            self._lock.write(run.session)
            self._lock.flush()
        snapshot = self._fetch()
        redactor = Redactor(secrets)
        self._network = TrialNetwork(run.config, lambda _body, _encoding: None, redactor)
        self._sandbox = self._make_sandbox(name)
        self._sandbox.prepare()
        if self._sandbox.image_digest != run.image_digest:
            raise SandboxUnavailableError(
                f"The image {run.config.runtime.sandbox.image!r} on the node {os.uname().nodename} differs from the image "
                "on the node where the run began.",
                remedy="Put the same image on all nodes.",
            )
        self._forks: dict[str, ForkSource] = {}
        """The running trial, if it is a fork."""
        passed = set(run.config.runtime.harness.environment.passed)
        own = {name: value for name, value in os.environ.items() if name not in passed}
        self._context = RunContext(
            config=run.config,
            run_id=run.run_id,
            root=self._folder / "project",
            clock=SystemClock(),
            host_environment=own | dict(run.environment),
            secrets=secrets,
            run_dir=run_dir,
            snapshot=snapshot,
            dataset=self._folder / "dataset",
            harness_identity=run.harness_identity,
            keep=run.keep,
            stored_result_bytes=run.stored_result_bytes,
            prices=run.prices,
            forks=self._forks,
        )
        self._trials = TrialRunner(self._context, self._sandbox, self._network, redactor)

    def run(self, order: TrialOrder) -> Iterator[TrialReport | bytes]:
        """Run a trial; yield its report with the first chunk of the archive of its files, then the other chunks.

        The trial's files on this node are deleted afterwards.

        Raises:
            TrialStopped: the run was stopped.
            RelabError, OSError: the trial failed without a result.
        """
        folder = trial_folder(self._context.run_dir, order.trial.ids.trial_id)
        target = self._run.run_dir / "trials" / folder.root.name
        try:
            self._receive(order, folder)
            move_checkpoint(folder, target, folder.root)
            try:
                with requests_to(self._run.session, folder) as stop_now:
                    result = self._trials.run(order.trial, stop_now)
            except TrialPaused as paused:
                move_checkpoint(folder, folder.root, target)
                report, known = self._report(folder, failure=paused)
            else:
                report, known = self._report(folder, result=result, evidence=self._evidence(result))
            chunks = pack(folder.root, self._context.run_dir, left_out=known)
            yield replace(report, archive=next(chunks))
            yield from chunks
        finally:
            self._forks.clear()
            remove_tree(self._context.run_dir / "trials")

    def close(self) -> None:
        """Release the sandbox, delete the folder of this worker process, and release the folder's lock."""
        self._sandbox.close()
        remove_tree(self._context.run_dir)
        self._lock.close()

    def _fetch(self) -> ProjectSnapshot:
        """Return the project's snapshot on this node; fetch the snapshot and the data set if they are missing.

        Raises:
            ExecutorUnavailableError: the fetched snapshot is damaged.
        """
        digest = self._run.snapshot_digest
        with file_lock(self._folder / "fetch.lock"):
            snapshot = cached_snapshot(self._folder, digest)
            if snapshot is None:
                _receive_folder(self._run.snapshot, snapshot_folder(self._folder, digest))
                _receive_folder(self._run.dataset, self._folder / "dataset")
                snapshot = cached_snapshot(self._folder, digest)
        if snapshot is None:
            raise ExecutorUnavailableError(f"The project arrived damaged at the node {os.uname().nodename}.")
        return snapshot

    def _receive(self, order: TrialOrder, folder: TrialFolder) -> None:
        """Unpack the archives in `order` that the trial needs.

        - the trial's own folder, if the trial was paused
        - workspace and state of the earlier trial, if the trial continues from one
        - the checkpoint, if the trial is a fork that begins at one
        - data set packs: files that the task needs and the project does not contain
        """
        if order.paused is not None:
            _receive_folder(order.paused, folder.root)
        if order.trial.previous_id is not None:
            before = trial_folder(self._context.run_dir, order.trial.previous_id)
            for name, shipment in order.previous.items():
                _receive_folder(shipment, before.root / name)
        if order.fork is not None:
            parent = self._context.run_dir / "trials" / "parent"
            if order.checkpoint is not None:
                _receive_folder(order.checkpoint, parent)
            self._forks[folder.root.name] = replace(order.fork, parent_dir=parent)
        if order.packs:
            with file_lock(self._folder / "fetch.lock"):
                for path, shipment in order.packs.items():
                    target = self._context.root / LAB / DATASET_PACKS / path
                    if not target.exists():
                        _receive_folder(shipment, target)

    def _report(self, folder: TrialFolder, **found: Any) -> tuple[TrialReport, AbstractSet[str]]:
        """Return a trial's report, and the paths in its folder that need not be sent to the machine of `lab run`.

        These paths are the unchanged files of the workspace; that machine has them in its snapshot of the project.
        `found` has the other fields of the report: `result` and `evidence`, or `failure`.
        """
        if not folder.workspace.is_dir() or folder.workspace.is_symlink():
            return TrialReport(**found), frozenset()
        before = self._context.snapshot.manifest
        now = Clone(folder.workspace, before).now().files
        changed = [path for path, entry in before.files.items() if now.get(path) != entry]
        # The machine of `lab run` has the snapshot already.
        kept = before.files.keys() - set(changed)
        return TrialReport(has_workspace=True, changed=changed, **found), {f"workspace/{path}" for path in kept}

    def _evidence(self, result: TrialResult) -> dict[str, bytes]:
        record = result.entry.get("evidence")
        if record is None:
            return {}
        store = self._context.run_dir / STORE
        return {f"{name}.json": (store / f"{name}.json").read_bytes() for name in stored_documents(record)}

    def _end_dead_workers(self) -> None:
        """End the processes and delete the files of this node's killed workers; the caller holds the node's lock."""
        for folder in self._folder.parent.iterdir():
            living = False
            for lock in folder.glob("workers/*.lock"):
                if _is_held(lock):
                    living = True
                else:
                    self._end_dead_worker(folder.name, lock.with_suffix(""))
                    lock.unlink()
            if not living and folder != self._folder:
                remove_tree(folder)

    def _end_dead_worker(self, run_id: str, run_dir: Path) -> None:
        end_stale_processes(run_dir)
        if run_id == self._run.run_id:
            with contextlib.suppress(RelabError):
                # A new sandbox with the same name removes what the dead worker's sandbox has left.
                sandbox = self._make_sandbox(run_dir.name)
                sandbox.prepare()
                sandbox.close()
        remove_tree(run_dir)

    def _make_sandbox(self, name: str) -> Sandbox:
        config = self._run.config
        return config.runtime.sandbox.mode.kind.make(sandbox_options(config, f"{self._run.run_id}-{name}"))


def _check_version(version: str) -> None:
    if relab.__version__ != version:
        raise ExecutorUnavailableError(
            f"The node {os.uname().nodename} has relab {relab.__version__}, and the run needs {version}.",
            remedy="Install the same version on all nodes.",
        )


def _node_folder() -> Path:
    """Return the folder of this node, in the temporary folder of its machine; create a missing folder.

    Raises:
        ExecutorUnavailableError: another user can write into the folder.
    """
    import ray

    top = Path(tempfile.gettempdir()) / f"relab-ray-{os.getuid()}"
    top.mkdir(mode=0o700, exist_ok=True)
    status = top.lstat()
    if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.getuid() or status.st_mode & 0o077:
        raise ExecutorUnavailableError(
            f"{top} on the node {os.uname().nodename} is not a folder that only its user can use.",
            remedy="Delete it, or set TMPDIR for the processes of Ray.",
        )
    # Several nodes may share a machine.
    node_id: str = ray.get_runtime_context().get_node_id()
    folder = top / node_id[:16]
    folder.mkdir(exist_ok=True)
    return folder


def _is_held(lock: Path) -> bool:
    """Return whether a lock file is locked. A worker process keeps its own lock file locked while it runs."""
    with lock.open("rb") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        return False


def _receive_folder(shipment: Shipment, target: Path) -> None:
    """Unpack an archive from the machine of `lab run`, and put the unpacked folder in the place of `target`.

    If unpacking fails, `target` is unchanged.
    """
    building = target.with_name(f".{target.name}.{uuid.uuid4().hex}")
    building.parent.mkdir(parents=True, exist_ok=True)
    try:
        unpack(_chunks(shipment), building, max_bytes=_MAX_SHIPPED_BYTES)
        remove_tree(target)
        building.rename(target)
    finally:
        remove_tree(building)


def _chunks(shipment: Shipment) -> Iterator[bytes]:
    import ray

    for chunk in shipment:
        yield chunk if isinstance(chunk, bytes) else ray.get(chunk)
