"""Prepare a trial: make its workspace, write its documents, and describe the start of its harness."""

from __future__ import annotations

import errno
import os
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

from relab.core.clock import format_time
from relab.experiments.config.models import SandboxMode, StatePolicy, Variant
from relab.experiments.config.sanitization import base_environment
from relab.experiments.models import TrialIds
from relab.experiments.plan.dataset import Task
from relab.experiments.sandbox.protocol import Folders, Launch, Places
from relab.experiments.trial import wire
from relab.experiments.trial.rows import RunContext
from relab.experiments.trial.trial_folder import INPUT, TrialFolder
from relab.experiments.trial.watch import MB
from relab.experiments.workspace.copier import TreeCopier
from relab.experiments.workspace.snapshots import Clone, clone, remove_tree
from relab.experiments.workspace.untrusted_files import read_plain, write_new, write_own


def folders_of(context: RunContext, folder: TrialFolder) -> Folders:
    """Return the folders for a trial's sandbox."""
    # A plain local harness could write into the shared snapshot, so it gets its own copy of the project.
    is_local = context.config.runtime.sandbox.mode is SandboxMode.LOCAL
    harness = folder.workspace if is_local else context.snapshot.root
    return folder.folders(context.tasks.path.parent, harness)


def make_workspace(context: RunContext, before: TrialFolder | None, task: Task, folder: TrialFolder) -> Clone:
    """Make a trial's workspace: a copy of the project, or of the workspace of the trial `before`, with its state.

    Raises:
        OSError: the disk is full, or a file cannot be read.
    """
    if before is None or not before.workspace.is_dir():
        return clone(context.snapshot.copier, folder.workspace, task.files)
    manifest = Clone(before.workspace, replace(context.snapshot.manifest, files={})).now()
    if before.state.is_dir():
        remove_tree(folder.state)
        shutil.copytree(before.state, folder.state, symlinks=True)
    return clone(TreeCopier(before.workspace, manifest), folder.workspace, task.files)


def prepare_launch(
    context: RunContext, ids: TrialIds, variant: Variant, task: Task, folder: TrialFolder, started_us: int
) -> tuple[Launch, bytes]:
    """Write the documents of a trial; return the launch of its harness, and the bytes of its `trial_input_v1`.

    Raises:
        OSError: a document cannot be written, or a mount of the task is missing.
    """
    harness = context.config.runtime.harness
    folders = folders_of(context, folder)
    places = context.sandbox.places(folders)
    control_path = _inside(places, harness.control_plane.path)
    document = wire.trial_input(context.config, ids, variant, task, places, control_path=control_path)
    given = _write_documents(context, folder, document, started_us)
    input_path, output_path = _inside(places, harness.input_path), _inside(places, harness.output_path)
    listeners, told = context.services.listeners(folder, ids)
    agentlab = {
        "AGENTLAB_TRIAL_INPUT": input_path,
        "AGENTLAB_TRIAL_OUTPUT": output_path,
        "AGENTLAB_CONTROL_PATH": control_path,
        "AGENTLAB_HARNESS_ROOT": places.harness,
    }
    launch = Launch(
        name=f"{ids.run_id}.{ids.trial_id}",
        command=[*harness.command, "--input", input_path, "--output", output_path],
        environment=_environment(context, places) | dict(told) | agentlab,
        folders=folders,
        stdin=folder.root / INPUT,
        stdout=folder.stdout,
        stderr=folder.stderr,
        mounts=_mounts(task, context.root),
        listeners=listeners,
        max_file_bytes=disk_bytes_of(context),
    )
    return launch, given


def disk_bytes_of(context: RunContext) -> int:
    """Return the largest size in bytes of a trial's folders: the snapshot's size plus `workspace.max_written_mb`."""
    return int(context.config.runtime.workspace.max_written_mb * MB) + context.snapshot.manifest.total_bytes


def mend_input(folder: TrialFolder, given: bytes) -> None:
    """Restore the runner's record of the trial input if the harness has changed it.

    Raises:
        OSError: the disk is full.
    """
    record = folder.root / INPUT
    if read_plain(record, len(given), below=folder.root) != given:
        write_own(record, given)


def _environment(context: RunContext, places: Places) -> dict[str, str]:
    host, listed = context.host_environment, context.config.runtime.harness.environment
    base = base_environment(context.config.design.sanitization_profile, host, places.home, places.tmp)
    if context.config.runtime.sandbox.mode is SandboxMode.CONTAINER:
        # In a container the image defines the PATH.
        base.pop("PATH", None)
    passed = {name: host[name] for name in listed.passed if name in host}
    return base | passed | dict(listed.set) | dict(context.secrets)


def _write_documents(context: RunContext, folder: TrialFolder, document: dict[str, Any], started_us: int) -> bytes:
    harness = context.config.runtime.harness
    given, control = folder.host_path(harness.input_path), folder.host_path(harness.control_plane.path)
    documents = (given, control, folder.host_path(harness.output_path), folder.host_path(harness.events.path))
    for parent in {path.parent for path in documents} - {folder.out, folder.state}:
        # Carried-over state may contain a link that an earlier trial made.
        if not parent.resolve().is_relative_to(folder.root.resolve()):
            raise OSError(errno.ELOOP, "A link of an earlier trial leads out of the trial's folder", str(parent))
        parent.mkdir(parents=True, exist_ok=True)
    if context.config.design.policies.state is not StatePolicy.ISOLATE_PER_TRIAL:
        # Carried-over state must not contain another trial's documents.
        for path in documents:
            path.unlink(missing_ok=True)
    raw = context.redactor.text(wire.to_json_bytes(document).decode()).encode()
    write_new(given, raw)
    # A hard link, because creating a second file is slower; if the harness writes to it, `mend_input` restores the record.
    os.link(given, folder.root / INPUT)
    write_new(control, wire.to_json_bytes(wire.control_document(format_time(started_us))))
    return raw


def _inside(places: Places, path: str) -> str:
    """Convert a path of the wire contract, such as `/out/x`, to the path inside the sandbox."""
    _, top, rest = path.split("/", 2)
    return f"{getattr(places, top)}/{rest}"


def _mounts(task: Task, root: Path) -> dict[str, Path]:
    found = {}
    for mount in task.mounts:
        packs = root / ".lab" / "dataset_packs"
        path = packs / mount.ref.replace(":", "/", 1)
        if not path.exists() or not path.resolve().is_relative_to(packs.resolve()):
            raise OSError(errno.ENOENT, f"there is no data set pack {mount.ref!r}", str(path))
        found[f"/workspace/{mount.path}"] = path
    return found
