"""The provenance of a run: its manifest, written at its start, and its attestation, written at its end."""

from __future__ import annotations

import hashlib
import os
import platform
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from relab import __version__
from relab.core.clock import format_time
from relab.core.json import digest
from relab.experiments.config.knobs import Override
from relab.experiments.config.models import IntegrationLevel
from relab.experiments.models import RunOptions
from relab.experiments.plan.resolve import Resolved
from relab.experiments.records.file_names import SEAL_FORMAT
from relab.experiments.records.journal_lines import FORMAT as JOURNAL_FORMAT
from relab.experiments.records.journal_lines import Head
from relab.experiments.records.run_folder import RunFolder
from relab.experiments.records.seals import seal
from relab.experiments.results.grades import TrialTally, grades
from relab.experiments.trial.harness_identity import harness_identity, identity_fields
from relab.experiments.workspace.snapshots import ProjectSnapshot

_GIT_TIMEOUT_S = 10.0


def run_manifest(
    *,
    run_id: str,
    created_at: str,
    digest: str,
    root: Path,
    command: str,
    overrides: Sequence[Override],
    facts: Mapping[str, Any],
) -> dict[str, Any]:
    """Return the manifest of a run, the JSON object `manifest_v1`.

    Args:
        run_id: the id of the run.
        created_at: the time at which the run began, in ISO 8601.
        digest: the digest of the run's configuration, with all defaults and overrides.
        root: the folder of the project.
        command: the command that creates the run: `run`, `run-dev`, `run-experiment` or `inspect import`.
        overrides: the overrides that were applied.
        facts: values for the field `ext` of the manifest: digests and settings of the run, such as data set and seeds.
    """
    document: dict[str, Any] = {
        "schema_version": "manifest_v1",
        "run_id": run_id,
        "created_at": created_at,
        "runner_version": __version__,
        "resolved_experiment": {"digest": digest},
        "ext": {
            "command": command,
            **_machine(),
            "overrides": [override.model_dump() for override in overrides],
            **facts,
        },
    }
    git = git_state(root)
    if git is not None:
        document["git"] = git
    if facts.get("image_digest"):
        document["image_digest"] = facts["image_digest"]
    return document


def manifest_of_new_run(
    resolved: Resolved,
    options: RunOptions,
    run_id: str,
    now_us: int,
    snapshot: ProjectSnapshot,
    image_digest: str | None,
) -> dict[str, Any]:
    """Return the manifest of a run that begins, the JSON object `manifest_v1`.

    Args:
        resolved: the experiment with its plan.
        options: the options of the command.
        run_id: the id of the run.
        now_us: when the run begins, in microseconds since 1970.
        snapshot: the snapshot of the project from which the trials start.
        image_digest: the digest of the container image; None if trials run without an image.
    """
    config, root = resolved.config, resolved.root
    return run_manifest(
        run_id=run_id,
        created_at=format_time(now_us),
        digest=digest(config.resolved()),
        root=root,
        command=options.command.value,
        overrides=resolved.overrides,
        facts={
            "experiment_path": str(resolved.path),
            "project_root": str(root),
            "total_trials": len(resolved.plan),
            "dataset_digest": resolved.tasks.digest,
            "dataset_path": str(resolved.tasks.path),
            "snapshot": snapshot.manifest.digest,
            "setup": options.setup,
            "keep_workspaces": options.keep.value,
            "harness_identity": harness_identity(config, resolved.script, root, image_digest),
            "image_digest": image_digest,
            "warnings": list(resolved.warnings),
            "journal": JOURNAL_FORMAT,
            "seal": SEAL_FORMAT,
            **({} if options.member is None else {"set": dict(zip(("set_id", "index"), options.member, strict=True))}),
        },
    )


def fork_manifest(
    parent: RunFolder, *, run_id: str, created_at: str, digest: str, facts: Mapping[str, Any]
) -> dict[str, Any]:
    """Return the manifest of a run of forks.

    A fork is a trial that begins at a checkpoint of an earlier trial, its parent. The run of forks uses the project,
    the data set and the image of the run of its parents.

    Args:
        parent: the run that contains the parents.
        run_id: the id of the run of forks.
        created_at: the time at which the run began, in ISO 8601.
        digest: the digest of the run's configuration, with all defaults and overrides.
        facts: values for the field `ext` of the manifest; they replace the values in the manifest of `parent`.
    """
    return {
        **parent.manifest,
        "run_id": run_id,
        "created_at": created_at,
        "runner_version": __version__,
        "resolved_experiment": {"digest": digest},
        "ext": {
            **parent.facts,
            **_machine(),
            "command": "fork",
            "journal": JOURNAL_FORMAT,
            "seal": SEAL_FORMAT,
            **facts,
        },
    }


def _machine() -> dict[str, str]:
    if sys.platform != "linux":
        return {"python": platform.python_version(), "platform": platform.platform()}
    # As `platform.platform()` gives it, which starts the program `uname` for the name of the processor.
    kernel = os.uname()
    parts = (kernel.sysname, kernel.release, kernel.machine, "with", "".join(platform.libc_ver()))
    return {"python": platform.python_version(), "platform": "-".join(parts)}


def git_state(root: Path) -> dict[str, Any] | None:
    """Return the state of the project's git checkout; None if the project is not in a git checkout.

    Keys:

    - `sha`: the commit.
    - `dirty`: whether files were changed or are untracked.
    - `diff_digest`: the digest of the changes of tracked files; missing without such changes.
    """
    # `HEAD` is in a repository without a working tree.
    if not any((folder / name).exists() for folder in (root, *root.absolute().parents) for name in (".git", "HEAD")):
        return None
    sha = _git(root, "rev-parse", "HEAD")
    if sha is None:
        return None
    status = _git(root, "status", "--porcelain") or b""
    found: dict[str, Any] = {"sha": sha.decode().strip(), "dirty": bool(status.strip())}
    # Files that git does not track are not in the diff.
    is_changed = any(not line.startswith(b"??") for line in status.splitlines())
    diff = _git(root, "diff", "HEAD", "--binary", "--no-ext-diff", "--no-textconv") if is_changed else None
    if diff:
        found["diff_digest"] = "sha256:" + hashlib.sha256(diff).hexdigest()
    return found


def _git(root: Path, *arguments: str) -> bytes | None:
    # Override the project's git settings: no optional locks, and no fsmonitor hook that runs a program.
    command = ["git", "--no-optional-locks", "-c", "core.fsmonitor=false", "-C", str(root), *arguments]
    # Inside a git hook, the GIT_* variables may name another checkout.
    environment = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    try:
        found = subprocess.run(command, env=environment, capture_output=True, timeout=_GIT_TIMEOUT_S, check=False)  # noqa: S603
    except (OSError, subprocess.TimeoutExpired):
        return None
    return found.stdout if found.returncode == 0 else None


def attestation(
    run: RunFolder,
    tally: TrialTally,
    *,
    head: Head | None,
    files: Mapping[str, str],
    is_complete: bool,
    signed_by: str | None = None,
) -> dict[str, Any]:
    """Return the attestation of a run: the JSON object `attestation_v1`, sealed with a digest of its own content.

    An attestation has the outcomes of the run, its grades (words that rate properties such as isolation), and the
    digests of its experiment, events and files.

    Args:
        run: the run.
        tally: the counts over the entries of the run's journal.
        head: the end of the journal: the number of its lines (without the first one), and the checksum of its last line.
            None for a journal without checksums.
        files: `{path below the run: digest}` of the files that belong to the run as a whole.
        is_complete: whether no trial is left to run.
        signed_by: the id of the key that signs the run; None if the run is not signed.
    """
    config = run.config
    contract, _ = identity_fields(config, run.facts.get("harness_identity", {}))
    document: dict[str, Any] = {
        "schema_version": "attestation_v1",
        "resolved_experiment_digest": run.digest,
        "events_hashchain": tally.heads,
        "grades_summary": grades(config, tally, is_complete=is_complete, is_signed=signed_by is not None),
        "harness_identity": contract,
    }
    if config.runtime.harness.integration_level is not IntegrationLevel.CLI_BASIC:
        document["hooks_schema_version"] = "hook_events_v1"
    if run.facts.get("image_digest"):
        document["image_digest"] = run.facts["image_digest"]
    ext: dict[str, Any] = {
        "run_id": run.run_id,
        "complete": is_complete,
        "outcomes": dict(sorted(tally.outcomes.items())),
        "files": dict(files),
        "signed_by": signed_by,
    }
    if head is not None:
        ext["journal"] = head.to_json()
    return seal({**document, "ext": ext})
