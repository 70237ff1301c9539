"""Manifests of workspaces (lists of files with digests), differences between two of them, and their JSON documents."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Any, NamedTuple

from relab.core.json import digest


class FileEntry(NamedTuple):
    """One file, or symbolic link, of a workspace.

    Attributes:
        path: the path of the file below the workspace.
        digest: the SHA-256 of the content as `sha256:` and hexadecimal digits; for a link, of its target path.
        size: the size of the file in bytes.
        mode: the permission bits of the file; -1 for a link.
    """

    path: str
    digest: str
    size: int
    mode: int


@dataclass(frozen=True)
class FileManifest:
    """The list of all files of a workspace, by path."""

    files: dict[str, FileEntry]

    @property
    def total_bytes(self) -> int:
        """The total size of the files in this manifest, in bytes."""
        return sum(entry.size for entry in self.files.values())

    @functools.cached_property
    def digest(self) -> str:
        """The digest over the paths, content digests and modes of all files in this manifest."""
        rows = [[shown(entry.path), entry.digest, entry.mode] for entry in sorted(self.files.values())]
        return digest(rows)

    def to_json(self, captured_at: str) -> dict[str, Any]:
        """Return the manifest as the JSON object `workspace_snapshot_v1`.

        `captured_at` is the time of the snapshot in ISO 8601.
        """
        return {
            "schema_version": "workspace_snapshot_v1",
            "captured_at": captured_at,
            "file_count": len(self.files),
            "total_bytes": self.total_bytes,
            "files": [_named(entry) for entry in sorted(self.files.values())],
        }


@dataclass(frozen=True)
class Diff:
    """The files added, removed and modified between two manifests; `modified` holds pairs `(old, new)`."""

    added: tuple[FileEntry, ...] = ()
    removed: tuple[FileEntry, ...] = ()
    modified: tuple[tuple[FileEntry, FileEntry], ...] = ()

    @property
    def changed_bytes(self) -> int:
        """The total size of the added and modified files, in bytes."""
        return sum(entry.size for entry in self.added) + sum(new.size for _, new in self.modified)

    def to_json(self) -> dict[str, Any]:
        """Return the difference between two states of a workspace as the JSON object `workspace_diff_v1`."""
        return {
            "schema_version": "workspace_diff_v1",
            "added": [_named(entry) for entry in self.added],
            "removed": [_named(entry) for entry in self.removed],
            "modified": [{**_named(new), "previous_digest": old.digest} for old, new in self.modified],
            "summary": {"added": len(self.added), "removed": len(self.removed), "modified": len(self.modified)},
        }

    def to_patch(self) -> dict[str, Any]:
        """Return the changed files, with digests of their contents, as the JSON object `workspace_patch_v1`."""
        changes = [{"op": "add", "path": shown(entry.path), "digest": entry.digest} for entry in self.added]
        changes += [{"op": "remove", "path": shown(entry.path)} for entry in self.removed]
        changes += [
            {"op": "modify", "path": shown(new.path), "digest": new.digest, "previous_digest": old.digest}
            for old, new in self.modified
        ]
        return {"schema_version": "workspace_patch_v1", "format": "file_digest_delta", "changes": changes}


def shown(path: str) -> str:
    """Return a path as valid Unicode for a document; bytes of a file name that are not UTF-8 are escaped."""
    return path if path.isascii() else path.encode("utf-8", "backslashreplace").decode()


def _named(entry: FileEntry) -> dict[str, Any]:
    return {"path": shown(entry.path), "digest": entry.digest, "size_bytes": entry.size}


def compare(before: FileManifest, after: FileManifest) -> Diff:
    """Return the difference between the manifests `before` and `after`, sorted by path."""
    return Diff(
        added=tuple(entry for path, entry in sorted(after.files.items()) if path not in before.files),
        removed=tuple(entry for path, entry in sorted(before.files.items()) if path not in after.files),
        modified=tuple(
            (before.files[path], entry)
            for path, entry in sorted(after.files.items())
            if path in before.files and before.files[path] != entry
        ),
    )
