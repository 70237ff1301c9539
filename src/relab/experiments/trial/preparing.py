"""Prepare a trial: create its workspace, write its documents, and describe the start of its harness."""

from __future__ import annotations

import errno
import os
import shutil
from dataclasses import replace
from pathlib import Path

from relab.core.clock import format_time
from relab.experiments.config.paths import DATASET_PACKS, LAB
from relab.experiments.config.sanitization import base_environment
from relab.experiments.plan.dataset import Mount, Task
from relab.experiments.plan.trials import Trial
from relab.experiments.sandbox.protocol import Folders, Launch, Places
from relab.experiments.trial import wire
from relab.experiments.trial.context import RunContext, RunSettings
from relab.experiments.trial.model_gateways import TrialServices
from relab.experiments.trial.trial_folder import INPUT, TrialFolder, trial_folder
from relab.experiments.trial.watch import MB
from relab.experiments.workspace.copier import TreeCopier
from relab.experiments.workspace.snapshots import Clone, clone
from relab.experiments.workspace.untrusted_files import read_plain, write_new, write_own
from relab.experiments.workspace.untrusted_trees import remove_tree


def folders_of(context: RunContext, folder: TrialFolder) -> Folders:
    """Return the folders to mount in the sandbox of a trial; `folder` is the folder of the trial.

    The folder `harness` is the project's snapshot or, in a sandbox without isolation, the trial's workspace.
    """
    # Without isolation a harness could write into the shared snapshot, so it gets its own copy of the project.
    isolates = context.config.runtime.sandbox.mode.kind.isolates
    harness = context.snapshot.root if isolates else folder.workspace
    return folder.folders(context.dataset, harness)


def make_workspace(context: RunContext, trial: Trial, folder: TrialFolder) -> Clone:
    """Create the workspace of a trial as a copy of the project.

    In a chain, each trial continues from the state of the previous trial. If the previous trial has left a workspace,
    it is copied instead of the project, and the previous trial's state folder is copied as well.

    Raises:
        OSError: the disk is full, or a file cannot be read.
    """
    before = trial_folder(context.run_dir, trial.previous_id) if trial.previous_id is not None else None
    if before is None or not before.workspace.is_dir():
        return clone(context.snapshot.copier, folder.workspace, trial.task.files)
    manifest = Clone(before.workspace, replace(context.snapshot.manifest, files={})).now()
    if before.state.is_dir():
        remove_tree(folder.state)
        shutil.copytree(before.state, folder.state, symlinks=True)
    return clone(TreeCopier(before.workspace, manifest), folder.workspace, trial.task.files)


def write_documents(
    context: RunContext, folder: TrialFolder, trial_input: bytes, started_us: int, *, is_resumed: bool = False
) -> None:
    """Write the documents that a harness reads: the input and the control file.

    In the control file, the runner asks the harness to continue, to write a checkpoint, or to stop. If an earlier trial
    or an earlier part of the attempt has left documents (input, control file, output, events), they are deleted first.

    Args:
        context: the values that all trials share.
        folder: the folder of the trial.
        trial_input: the input, `trial_input_v1` as JSON.
        started_us: when the attempt began, in microseconds since 1970.
        is_resumed: whether a paused attempt continues; its events are then not deleted.

    Raises:
        OSError: a document cannot be written, or its folder is outside of the trial's folder (through a link).
    """
    harness = context.config.runtime.harness
    input_path, control = folder.host_path(harness.input_path), folder.host_path(harness.control_plane.path)
    events = folder.host_path(harness.events.path)
    documents = (input_path, control, folder.host_path(harness.output_path), events)
    for parent in {path.parent for path in documents} - {folder.out, folder.state}:
        # Carried-over state may contain a link that an earlier trial made.
        if not parent.resolve().is_relative_to(folder.root.resolve()):
            raise OSError(errno.ELOOP, "A link of an earlier trial leads out of the trial's folder", str(parent))
        parent.mkdir(parents=True, exist_ok=True)
    if is_resumed or context.config.design.policies.state.carries_state:
        # Documents of an earlier trial in carried-over state, or of an earlier attempt, must not be taken for new ones.
        for path in documents:
            if not (is_resumed and path == events):
                path.unlink(missing_ok=True)
    write_new(input_path, trial_input)
    # A hard link, because creating a second file is slower; if the harness writes to it, `restore_input` restores the record.
    os.link(input_path, folder.root / INPUT)
    write_new(control, wire.to_json_bytes(wire.control_document(format_time(started_us))))


def make_launch(
    context: RunContext, trial: Trial, folder: TrialFolder, folders: Folders, places: Places, services: TrialServices
) -> Launch:
    """Return the description of how a trial's harness is started.

    Args:
        context: the values that all trials share.
        trial: the trial.
        folder: the folder of the trial.
        folders: the folders for the sandbox, as paths on this machine.
        places: the folders for the sandbox, as paths inside the sandbox.
        services: the runner's services inside the sandbox's network.

    Raises:
        OSError: a folder that the task reads is missing.
    """
    harness = context.config.runtime.harness
    input_path, output_path = places.inside(harness.input_path), places.inside(harness.output_path)
    agentlab = {
        "AGENTLAB_TRIAL_INPUT": input_path,
        "AGENTLAB_TRIAL_OUTPUT": output_path,
        "AGENTLAB_CONTROL_PATH": places.inside(harness.control_plane.path),
        "AGENTLAB_HARNESS_ROOT": places.harness,
    }
    return Launch(
        command=[*harness.command, "--input", input_path, "--output", output_path],
        environment=harness_environment(context, places) | dict(services.environment) | agentlab,
        folders=folders,
        stdin=folder.root / INPUT,
        stdout=folder.stdout,
        stderr=folder.stderr,
        mounts=mounts_of(trial.task, context.root),
        listeners=services.listeners,
        max_file_bytes=disk_bytes_of(context),
    )


def disk_bytes_of(context: RunContext) -> int:
    """Return the disk limit in bytes of a trial's folders: the snapshot's size plus `workspace.max_written_mb`."""
    return int(context.config.runtime.workspace.max_written_mb * MB) + context.snapshot.manifest.total_bytes


def restore_input(folder: TrialFolder, given: bytes) -> None:
    """Write the file with the trial's input again if the harness has changed it; `given` is the right content.

    Raises:
        OSError: the disk is full.
    """
    record = folder.root / INPUT
    if read_plain(record, len(given), below=folder.root) != given:
        write_own(record, given)


def harness_environment(settings: RunSettings, places: Places) -> dict[str, str]:
    """Return the environment variables that all harnesses of a run get, including secrets.

    The caller adds the variables of the single trial: the paths of its documents (`AGENTLAB_...`), and the addresses of
    the runner's services, such as proxies and model gateways.

    Args:
        settings: the settings of the run.
        places: the trial's folders, as paths inside the sandbox.
    """
    host, listed = settings.host_environment, settings.config.runtime.harness.environment
    base = base_environment(settings.config.design.sanitization_profile, host, places.home, places.tmp)
    if settings.config.runtime.sandbox.mode.kind.runs_image:
        # In a container the image defines the PATH.
        base.pop("PATH", None)
    passed = {name: host[name] for name in listed.passed if name in host}
    return base | passed | dict(listed.set) | dict(settings.secrets)


def pack_path(mount: Mount) -> str:
    """Return the path of the data set pack that a task mounts, relative to the folder `.lab/dataset_packs`.

    A pack is a file or a folder with data.
    """
    return mount.ref.replace(":", "/", 1)


def mounts_of(task: Task, root: Path) -> dict[str, Path]:
    """Return the data set packs that a task reads: `{path in the sandbox: path on this machine}`.

    A pack is a file or a folder below `.lab/dataset_packs`. The packs have the order of `task.mounts`.

    Raises:
        OSError: the project at `root` has no such pack.
    """
    found = {}
    packs = root / LAB / DATASET_PACKS
    for mount in task.mounts:
        path = packs / pack_path(mount)
        if not path.exists() or not path.resolve().is_relative_to(packs.resolve()):
            raise OSError(errno.ENOENT, f"there is no data set pack {mount.ref!r}", str(path))
        found[f"/workspace/{mount.path}"] = path
    return found
