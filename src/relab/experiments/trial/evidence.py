"""Record the evidence of a trial: lists of its workspace's files before and after it, and digests of its documents."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from relab.core.atomic_files import replace_file
from relab.experiments.config.state_policy import StatePolicy
from relab.experiments.errors import ArchiveInvalidError
from relab.experiments.models import TrialRow
from relab.experiments.sandbox.kinds import SandboxMode
from relab.experiments.trial.trial_folder import EVIDENCE, INPUT, INVENTORY, OUTPUT, TrialFolder, link_or_copy
from relab.experiments.trial.wire import to_json_bytes
from relab.experiments.workspace.manifests import Diff, FileManifest
from relab.experiments.workspace.untrusted_files import digest_plain

STORE: Final = f"{EVIDENCE}/objects"
"""The folder in a run for documents about workspaces.

Each is named by the digest of its bytes, so that equal ones share a file.
"""
REF: Final = "artifact://sha256/"
_REMEMBERED = 1_000


@dataclass(frozen=True)
class TrialEvidence:
    """The digests of the documents about a trial's workspace; the documents are in the run's store, named by digest.

    Attributes:
        folder: the folder of the trial.
        events: the file of the trial's events.
        before, after: the SHA-256, in hexadecimal, of the lists of files before and after the trial.
        diff: the SHA-256 of the list of changed files.
        patch: the SHA-256 of the document that lists each change as an operation: add, remove or modify.
    """

    folder: TrialFolder
    events: Path
    before: str
    after: str
    diff: str
    patch: str

    def record(
        self, row: TrialRow, chain_id: str, state_policy: StatePolicy, own: Mapping[str, str] | None = None
    ) -> dict[str, Any]:
        """Return the evidence record of the trial, the JSON object `evidence_record_v1`.

        Args:
            row: the row of the trial.
            chain_id: the id of the trial's chain. In a chain, each trial continues from the state of the previous
                trial.
            state_policy: which earlier trials a trial continues from.
            own: `{file name in the trial's folder: "artifact://sha256/<digest>"}` of further documents that the runner
                wrote; None for no further documents. The record lists them under `ext`.
        """
        root = self.folder.root
        files = {
            "trial_input": root / INPUT,
            "trial_output": root / OUTPUT,
            "stdout": self.folder.stdout,
            "stderr": self.folder.stderr,
            "hook_events": self.events,
        }
        digests = {name: digest_plain(path, below=root) for name, path in files.items()}
        refs = {f"{name}_ref": REF + digest for name, digest in digests.items() if digest is not None}
        # All are below the root; text is much faster than path objects.
        begin = len(str(root)) + 1
        paths = {
            name: f"{row.trial_dir}/{str(path)[begin:]}" for name, path in files.items() if digests[name] is not None
        }
        return {
            "schema_version": "evidence_record_v1",
            "ts": row.ended_at,
            "ids": row.ids.to_json(),
            "policy": {
                "state_policy": state_policy.value,
                "task_model": state_policy.task_model,
                "chain_id": chain_id,
            },
            "runtime": {
                "executor": SandboxMode(row.sandbox).kind.contract_executor,
                "container_mode": row.container_mode,
                "exit_status": row.status_code,
                "duration_ms": row.duration_ms or 0.0,
            },
            "evidence": refs | self._workspace_refs(),
            "paths": {
                "trial_dir": row.trial_dir,
                **paths,
                "workspace_pre_snapshot": f"{STORE}/{self.before}.json",
                "workspace_post_snapshot": f"{STORE}/{self.after}.json",
                "diff_incremental": f"{STORE}/{self.diff}.json",
                "patch_incremental": f"{STORE}/{self.patch}.json",
            },
            # The contract has no executor for bubblewrap, so `ext` has the sandbox's name.
            "ext": {"sandbox": row.sandbox, "files": dict(own or {})},
        }

    def chain(self, row: TrialRow, chain_id: str, state_policy: StatePolicy) -> dict[str, Any]:
        """Return the record of the trial's place in its chain, the JSON object `task_chain_state_v1`.

        It has the digests of four documents: the list of the workspace's files before the trial, the list after the
        trial, the differences between the two lists, and these differences as a patch (a list of operations).

        Args:
            row: the result of the trial.
            chain_id: the id of the trial's chain. In a chain, each trial continues from the state of the previous
                trial.
            state_policy: which earlier trials a trial continues from.
        """
        refs = self._workspace_refs()
        ids = row.ids.to_json()
        del ids["run_id"]
        return {
            "schema_version": "task_chain_state_v1",
            "ts": row.ended_at,
            "run_id": row.run_id,
            "chain_id": chain_id,
            "task_model": state_policy.task_model,
            "step_index": 0,
            "ids": ids,
            "snapshots": {
                "chain_root_ref": refs["workspace_pre_ref"],
                "prev_ref": refs["workspace_pre_ref"],
                "post_ref": refs["workspace_post_ref"],
            },
            "diffs": {name.replace("diff_", ""): refs[name] for name in ("diff_incremental_ref", "diff_cumulative_ref")}
            | {name: refs[name] for name in ("patch_incremental_ref", "patch_cumulative_ref")},
        }

    def _workspace_refs(self) -> dict[str, str]:
        diff, patch = REF + self.diff, REF + self.patch
        return {
            "workspace_pre_ref": REF + self.before,
            "workspace_post_ref": REF + self.after,
            "diff_incremental_ref": diff,
            "diff_cumulative_ref": diff,
            "patch_incremental_ref": patch,
            "patch_cumulative_ref": patch,
        }


class EvidenceStore:
    """Stores the documents about the workspaces of a run, each once, named by digest. Thread-safe.

    Args:
        run_dir: the run's folder.
    """

    def __init__(self, run_dir: Path) -> None:
        self._root = run_dir / STORE
        self._root.mkdir(parents=True, exist_ok=True)
        self._snapshots: dict[str, str] = {}
        self._unchanged = (self._put(Diff().to_json()), self._put(Diff().to_patch()))

    def write(
        self, folder: TrialFolder, before: FileManifest, after: FileManifest, diff: Diff, at: str, events: Path
    ) -> TrialEvidence:
        """Store the lists of a workspace's files before and after a trial, their difference, and a patch.

        Args:
            folder: the folder of the trial.
            before: the files of the workspace before the trial.
            after: the files of the workspace after the trial.
            diff: the difference between `before` and `after`.
            at: the time of the snapshots, in ISO 8601.
            events: the file of the trial's events.

        Returns:
            The digests of the stored documents.

        Raises:
            OSError: a document cannot be written, for example on a full disk.
        """
        pre = self._snapshot(before, at)
        if diff == Diff():
            return TrialEvidence(folder, events, pre, pre, *self._unchanged)
        after_ref = self._snapshot(after, at)
        return TrialEvidence(folder, events, pre, after_ref, self._put(diff.to_json()), self._put(diff.to_patch()))

    def link(self, document: Any, path: Path) -> str:
        """Store a document once for all trials, and link or copy it to `path`; return its SHA-256 in hexadecimal.

        Raises:
            OSError: the document cannot be written, for example on a full disk.
        """
        name = self._put(document)
        link_or_copy(self._root / f"{name}.json", path)
        return name

    def _snapshot(self, manifest: FileManifest, at: str) -> str:
        known = self._snapshots.get(manifest.digest)
        if known is None:
            if len(self._snapshots) >= _REMEMBERED:
                self._snapshots.clear()
            known = self._snapshots[manifest.digest] = self._put(manifest.to_json(at))
        return known

    def _put(self, document: Any) -> str:
        raw = to_json_bytes(document)
        name = hashlib.sha256(raw).hexdigest()
        path = self._root / f"{name}.json"
        if not path.exists():
            replace_file(path, raw)
        return name


def store_document(run_dir: Path, name: str, raw: bytes) -> None:
    """Store a document of a trial that ran on another machine.

    Args:
        run_dir: the folder of the run.
        name: the name in the store: the SHA-256 of `raw` in hexadecimal, and `.json`.
        raw: the bytes of the document.

    Raises:
        ArchiveInvalidError: `raw` has another digest than `name` says.
        OSError: the document cannot be written, for example on a full disk.
    """
    if name != f"{hashlib.sha256(raw).hexdigest()}.json":
        raise ArchiveInvalidError(f"The document {name[:200]!r} does not match its digest.")
    path = run_dir / STORE / name
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        replace_file(path, raw)


def stored_documents(record: Mapping[str, Any]) -> set[str]:
    """Return the SHA-256 digests, in hexadecimal, of the documents in the run's store that a trial's record names.

    Args:
        record: an evidence record, as `TrialEvidence.record` returns it.
    """
    top = f"{STORE}/"
    found = (path[len(top) :] for path in record["paths"].values() if path.startswith(top))
    names = {name.removesuffix(".json") for name in found if "/" not in name}
    inventory = record.get("ext", {}).get("files", {}).get(INVENTORY)
    return names if inventory is None else names | {inventory.removeprefix(REF)}
