"""Find the snapshot of the project from the start of a run, and record that a run continued with another snapshot."""

from __future__ import annotations

from pathlib import Path

import jiter
import pydantic_core

from relab.core.clock import format_time
from relab.experiments.config.paths import LAB
from relab.experiments.errors import RunChangedError, damaged
from relab.experiments.records.file_names import DRIFT
from relab.experiments.records.run_folder import RunFolder
from relab.experiments.workspace.snapshots import ProjectSnapshot, cached_snapshot, take_snapshot


def snapshot_of(run: RunFolder, root: Path, *, allow_drift: bool) -> tuple[ProjectSnapshot, str | None]:
    """Return the snapshot of the project from the start of a run; take a new snapshot if the cache does not have it.

    Args:
        run: the run.
        root: the folder of the project.
        allow_drift: whether the content of a new snapshot may differ from the start of the run.

    Returns:
        `(snapshot, None)` if the content is the same as at the start of the run; else `(new snapshot, its digest)`.

    Raises:
        RunChangedError: the cache lacks the snapshot, the project was changed, and `allow_drift` is not set.
    """
    digest = run.facts["snapshot"]
    found = cached_snapshot(root / LAB / "cache", digest)
    if found is None:
        found = take_snapshot(root, root / LAB / "cache", run.config.runtime.workspace.ignore)
    now = found.manifest.digest
    if now == digest:
        return found, None
    if not allow_drift:
        raise RunChangedError(
            f"The project {root} was changed since {run.run_id} began, and its snapshot is missing from the cache:"
            f" the digest was {digest}, and is {now}.",
            remedy="Trials of two versions of the project should not be in one table: start a new run, or record the"
            f" change with lab resume --run-dir {run.path} --allow-drift.",
        )
    return found, now


def kept_snapshot(run: RunFolder, root: Path) -> ProjectSnapshot:
    """Return the snapshot of the project from the start of a run; it is in the cache of the project at `root`.

    Raises:
        RunChangedError: the cache does not have the snapshot any more.
    """
    found = cached_snapshot(root / LAB / "cache", run.facts["snapshot"])
    if found is None:
        raise RunChangedError(
            f"The snapshot {run.facts['snapshot']} from the start of {run.run_id} is not in the cache any more.",
            remedy="Restore the folder .lab/cache; its trials cannot be replayed or forked without it.",
        )
    return found


def check_image(run: RunFolder, image_digest: str | None) -> None:
    """Check that the container image of the sandbox is the same as at the start of the run.

    `image_digest` is the digest of the present image; None if trials run without an image.

    Raises:
        RunChangedError: the present image differs from the image at the start.
    """
    if image_digest != run.facts["image_digest"]:
        raise RunChangedError(
            f"The image of {run.run_id} has changed: its digest was {run.facts['image_digest']}, and is {image_digest}.",
            remedy="Tag the old image again.",
        )


def record_drift(run: RunFolder, digest: str, now_us: int) -> None:
    """Record that the project was changed, and that further trials start from a new snapshot.

    Args:
        run: the run.
        digest: the digest of the new snapshot.
        now_us: the current time, in microseconds since 1970.

    Raises:
        OSError: the disk is full.
    """
    record = {"at": format_time(now_us), "before": run.facts["snapshot"], "after": digest}
    with (run.path / DRIFT).open("ab") as file:
        file.write(pydantic_core.to_json(record) + b"\n")


def drifts(run: RunFolder) -> list[str]:
    """Return a warning for each recorded change of the project, oldest first.

    Raises:
        RunDamagedError: the record cannot be read.
    """
    path: Path = run.path / DRIFT
    try:
        lines = path.read_bytes().splitlines()
    except FileNotFoundError:
        return []
    found = []
    for line in lines:
        try:
            record = jiter.from_json(line)
            found.append(
                f"Since {record['at']}, trials start from another version of the project: its digest was"
                f" {record['before']}, and is {record['after']}."
            )
        except (ValueError, KeyError, TypeError) as error:
            raise damaged(path, f"cannot be read: {error}") from error
    return found
