"""One result of a trial as a file of the result cache: a line of JSON about the attempt, and an archive of its files.

The archive has the files that the harness left in the trial's folder. The runner computes the outcome, the metrics and
the evidence of a restored trial from these files, as for a trial that was run. Only the times, the exit code, the
isolation and the metrics about the use of models come from the line of JSON. The archive leaves out the documents that
the runner writes for each trial, and the files of the workspace that the trial did not change.
"""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO, Any, Final

from relab.experiments.config.models import ExperimentConfig
from relab.experiments.errors import ArchiveInvalidError, StoredResultInvalidError
from relab.experiments.models import TrialIds, TrialOutcome, TrialRow
from relab.experiments.sandbox.protocol import Posture
from relab.experiments.trial.context import RunContext
from relab.experiments.trial.pausing import REQUEST
from relab.experiments.trial.rows import AttemptTimes, FinishedAttempt
from relab.experiments.trial.span_usage import cost_of
from relab.experiments.trial.trial_folder import INPUT, INVENTORY, OUTPUT, STATE, TrialFolder
from relab.experiments.trial.wire import MAX_OUTPUT_BYTES
from relab.experiments.workspace.archives import pack, remove_changed, unpack
from relab.experiments.workspace.manifests import FileManifest
from relab.experiments.workspace.untrusted_files import read_plain, write_own

CAPTURE: Final = ".result_to_store"
"""The file in a trial's folder with a result for the cache, until it is moved there."""
_FORMAT: Final = "relab_result_v1"
_PIECE: Final = 1_048_576
_MAX_HEAD: Final = 256 * _PIECE
_OF_EACH_TRIAL: Final = frozenset((INPUT, OUTPUT, STATE, INVENTORY, CAPTURE, REQUEST))


@dataclass(frozen=True, kw_only=True)
class StoredHead:
    """The data about a trial's result in the result cache, stored in front of the files of the result.

    Attributes:
        ids: the ids of the earlier trial that produced the result, as the fields of `TrialIds`.
        agent_run_id: the id of the trial's agent run in telemetry; None if it has none.
        outcome: `success` or `failure`.
        attempts: the number of attempts at the trial.
        exit_code: the exit code of the harness.
        started_us, ended_us: when the last attempt began and ended, in microseconds since 1970.
        duration_ms: how long the harness ran in the last attempt.
        cost_usd: the cost of all attempts; an attempt without a reported cost counts with its estimated cost.
        posture: the isolation that was in effect, as the fields of `Posture`.
        model_use: the metrics about the trial's requests to models. Tokens and cost are included if they come from
            the harness's spans.
        changed: the paths of the workspace's files that the trial changed or deleted.
        workspace: the digest of the workspace after the trial, without the documents that harness and runner exchange.
    """

    ids: Mapping[str, Any]
    agent_run_id: str | None
    outcome: str
    attempts: int
    exit_code: int
    started_us: int
    ended_us: int
    duration_ms: float
    cost_usd: float
    posture: Mapping[str, Any]
    model_use: Mapping[str, float]
    changed: Sequence[str]
    workspace: str

    @property
    def trial_ids(self) -> TrialIds:
        """The ids of the earlier trial that produced the result."""
        return TrialIds(**self.ids)

    @property
    def source(self) -> str:
        """The earlier trial that produced the result, as `<run>.<trial>`."""
        return f"{self.ids['run_id']}.{self.ids['trial_id']}"

    @property
    def times(self) -> AttemptTimes:
        """When the trial's last attempt began and ended, and how long its harness ran."""
        return AttemptTimes(self.started_us, self.ended_us, self.duration_ms)

    @property
    def isolation(self) -> Posture:
        """The isolation that was in effect in the sandbox of the trial's last attempt."""
        return Posture(**self.posture)


@dataclass(frozen=True)
class StoredResult:
    """A result that was read from the result cache; its digest was checked and is correct.

    Attributes:
        key: the key of the result in the cache.
        head: the data about the result, from the beginning of the file.
        stored_at: when the result was stored, in ISO 8601.
        digest: the keyed digest of the whole cache entry, in hexadecimal.
        file: the open file of the cache entry.
        begin, end: the offsets in `file` between which the archive of the result's files is.
    """

    key: str
    head: StoredHead
    stored_at: str
    digest: str
    file: IO[bytes]
    begin: int
    end: int

    def provenance(self) -> dict[str, Any]:
        """Return where the result comes from, as a JSON object for the documents of the trial that gets the result.

        The object names the earlier trial, the cache entry and its time, and the saved duration and cost.
        """
        head = self.head
        return {
            "run_id": head.ids["run_id"],
            "trial_id": head.ids["trial_id"],
            "stored_at": self.stored_at,
            "key": self.key,
            "entry": f"hmac-sha256:{self.digest}",
            "not_spent_again": {"duration_ms": head.duration_ms, "cost_usd": head.cost_usd},
        }

    def unpack(
        self, config: ExperimentConfig, folder: TrialFolder, before: FileManifest, ids: TrialIds, max_bytes: int
    ) -> None:
        """Unpack the files of a stored result into the folder of a trial that has not run.

        In the output and the events, the ids of the trial replace the stored ids.

        Args:
            config: the experiment.
            folder: the folder of the trial.
            before: the files in the unchanged workspace.
            ids: the ids of the trial.
            max_bytes: the largest total size of the unpacked files.

        Raises:
            StoredResultInvalidError: the files do not match the workspace or the folder.
            OSError: the disk is full.
        """
        try:
            remove_changed(folder.workspace, self.head.changed, before.files)
            unpack(self._chunks(), folder.root, max_bytes=max_bytes)
        except (ArchiveInvalidError, FileNotFoundError) as error:
            raise StoredResultInvalidError(f"its files cannot be unpacked: {error}") from error
        harness, source = config.runtime.harness, self.head.trial_ids
        output = folder.host_path(harness.output_path)
        for path in (output if output.exists() else folder.stdout, folder.host_path(harness.events.path)):
            _rename(path, source, ids, below=folder.root)

    def check(self, config: ExperimentConfig, attempt: FinishedAttempt) -> None:
        """Check that an attempt has the outcome and the workspace recorded with this stored result.

        `attempt` was restored from the files of the stored result.

        Raises:
            StoredResultInvalidError: the outcome or the workspace differs.
        """
        if attempt.outcome != self.head.outcome:
            raise StoredResultInvalidError(f"its outcome is {attempt.outcome}, and was {self.head.outcome}")
        if _workspace(config, attempt.after) != self.head.workspace:
            raise StoredResultInvalidError("its workspace is another one than was stored")

    def _chunks(self) -> Iterator[bytes]:
        self.file.seek(self.begin)
        left = self.end - self.begin
        while left and (piece := self.file.read(min(_PIECE, left))):
            left -= len(piece)
            yield piece


def capture(
    context: RunContext,
    folder: TrialFolder,
    attempt: FinishedAttempt,
    row: TrialRow,
    *,
    earlier_usd: float,
    model_use: Mapping[str, float],
) -> None:
    """Write the result of a trial into the file `CAPTURE` of its folder, for the result cache.

    Nothing is written if the run uses no result cache, if the attempt is not reusable, if the result is too large, or
    if a file cannot be read or written.

    Args:
        context: the values that all trials share; `stored_result_bytes` is the largest size of the file.
        folder: the folder of the trial.
        attempt: the last attempt.
        row: the row of the trial.
        earlier_usd: the cost of the earlier attempts.
        model_use: the trial's metrics about requests to models.
    """
    max_bytes, config = context.stored_result_bytes, context.config
    if not max_bytes or not attempt.is_reusable:
        return
    assert attempt.posture is not None
    assert attempt.end.exit_code is not None
    changed = [entry.path for entry in attempt.diff.removed] + [old.path for old, _ in attempt.diff.modified]
    head = StoredHead(
        ids=row.ids.to_json(),
        agent_run_id=row.agent_run_id,
        outcome=attempt.outcome.value,
        attempts=row.attempts,
        exit_code=attempt.end.exit_code,
        started_us=attempt.times.started_us,
        ended_us=attempt.times.ended_us,
        duration_ms=attempt.times.duration_ms,
        cost_usd=cost_of(row.metrics) + earlier_usd,
        posture=asdict(attempt.posture),
        model_use=model_use,
        changed=changed,
        workspace=_workspace(config, attempt.after),
    )
    harness = config.runtime.harness
    kept = attempt.before.files.keys() - set(changed)
    left_out = _OF_EACH_TRIAL | {harness.input_path[1:], harness.control_plane.path[1:]}
    left_out |= {f"workspace/{path}" for path in kept}
    path = folder.root / CAPTURE
    try:
        with path.open("xb") as file:
            # Not `pydantic_core`: paths may be invalid Unicode.
            file.write(json.dumps({"format": _FORMAT, **asdict(head)}).encode() + b"\n")
            for chunk in pack(folder.root, folder.root, left_out=left_out):
                if file.tell() + len(chunk) > max_bytes:
                    path.unlink()
                    return
                file.write(chunk)
    except OSError:
        with contextlib.suppress(OSError):
            path.unlink()


def read_head(file: IO[bytes]) -> StoredHead:
    """Read the data about a stored result from the first line of its file.

    Afterwards, the position of `file` is the end of this line, where the archive of the result's files begins.

    Raises:
        StoredResultInvalidError: the line is invalid, or has another format.
    """
    try:
        document = json.loads(file.readline(_MAX_HEAD))
        if document.pop("format") != _FORMAT:
            raise StoredResultInvalidError("it has another format")
        head = StoredHead(**document)
        head.trial_ids, head.isolation, TrialOutcome(head.outcome)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise StoredResultInvalidError(f"its first line cannot be read: {error}") from error
    return head


def _workspace(config: ExperimentConfig, after: FileManifest) -> str:
    """Return the digest of the workspace after a trial, without the documents that harness and runner exchange."""
    harness = config.runtime.harness
    # These documents contain the ids of run and trial, which differ between equal trials.
    documents = {harness.input_path, harness.output_path, harness.events.path, harness.control_plane.path}
    paths = {path.removeprefix("/workspace/") for path in documents if path.startswith("/workspace/")}
    return FileManifest({path: entry for path, entry in after.files.items() if path not in paths}).digest


def _rename(path: Path, source: TrialIds, ids: TrialIds, *, below: Path) -> None:
    """In a file of JSON or JSON lines, replace the run id and the trial id in `source` with the ids in `ids`.

    Do nothing if the file is missing, too large, or reached through a link below the folder `below`.
    """
    raw = read_plain(path, MAX_OUTPUT_BYTES * 16, below=below)
    if raw is None:
        return
    changed = raw
    for name in ("run_id", "trial_id"):
        old, new = (json.dumps(getattr(each, name)).encode() for each in (source, ids))
        field = re.compile(rb'("' + name.encode() + rb'"\s*:\s*)' + re.escape(old))
        changed = field.sub(lambda found, new=new: found[1] + new, changed)  # type: ignore[misc]
    if changed != raw:
        write_own(path, changed)
