"""Pause a running trial: ask its harness for a checkpoint, then to stop, and wait for both acknowledgements.

`lab pause` writes a request into the trial's folder. The process that runs the trial finds the request, sends it on to
the harness through the control file, reads the acknowledgements among the harness's events, and writes a record of the
pause, with which the trial can be resumed.
"""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Annotated, Any, Final, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from relab.core.atomic_files import replacing
from relab.core.clock import format_time
from relab.core.validation import plain_message
from relab.experiments.errors import damaged
from relab.experiments.trial import wire
from relab.experiments.trial.event_tail import EventTail
from relab.experiments.trial.trial_folder import TrialFolder
from relab.experiments.workspace.manifests import FileEntry, FileManifest
from relab.experiments.workspace.untrusted_files import read_plain, replace_plain, write_new

REQUEST: Final = "pause_request.json"
PAUSED: Final = "paused.json"
MAX_LABEL: Final = 200
MAX_TIMEOUT_S: Final = 86_400.0
_MAX_REQUEST_BYTES: Final = 65_536
_MAX_RECORD_BYTES: Final = 1_073_741_824


class PauseRequest(BaseModel):
    """The request to pause a trial.

    Attributes:
        request_id: the id of the request.
        label: a name for the checkpoint that the harness writes before it stops; None for no name.
        timeout_s: the time in seconds after which the runner ends a harness that has not stopped by itself.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    request_id: str
    label: Annotated[str, Field(min_length=1, max_length=MAX_LABEL)] | None = None
    timeout_s: Annotated[float, Field(gt=0, le=MAX_TIMEOUT_S)] = 60.0


class PausedTrial(BaseModel):
    """The record of a pause, with which the trial can be resumed.

    Attributes:
        request_id, label: the id and the label in the request.
        acknowledged: whether the harness acknowledged both requests (for a checkpoint, and to stop), and ended by
            itself. If not, the trial restarts from its beginning.
        reason: how the pause ended, in one sentence.
        attempt: the number of the attempt that was paused, from 1.
        segments: how often the attempt has been paused, this pause included.
        started_us: when the attempt began, in microseconds since 1970.
        duration_ms: the time for which the harness has run in the attempt, without the pauses, in milliseconds.
        checkpoint: the checkpoint to resume from, as the harness named it; None if the harness named no checkpoint.
        events_seq: the number (`seq`) of the last event before this pause; None if there were no events.
        earlier_seqs: the numbers (`seq`) of the last event before each earlier pause of the attempt.
        files: `(path, digest, size in bytes, mode)` of the workspace's files when the attempt began.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    schema_version: Literal["paused_trial_v1"] = "paused_trial_v1"
    request_id: str
    label: str | None
    acknowledged: bool
    reason: str
    attempt: Annotated[int, Field(ge=1)]
    segments: Annotated[int, Field(ge=1)]
    started_us: int
    duration_ms: float
    checkpoint: wire.Checkpoint | None
    events_seq: int | None
    earlier_seqs: list[int] = []
    files: list[tuple[str, str, int, int]]

    @property
    def manifest(self) -> FileManifest:
        """The files of the workspace when the attempt began."""
        return FileManifest({path: FileEntry(path, *rest) for path, *rest in self.files})  # type: ignore[arg-type]

    @property
    def seqs(self) -> list[int]:
        """The `seq` of the last event before each pause of the attempt, oldest first."""
        return self.earlier_seqs if self.events_seq is None else [*self.earlier_seqs, self.events_seq]

    def ext(self) -> dict[str, Any]:
        """Return the value of `ext.resume` in the input of a resumed trial, as JSON.

        The value has the label of the pause, the checkpoint, the `seq` of the last event, and the number of pauses.
        """
        return {
            "label": self.label,
            "checkpoint": None if self.checkpoint is None else self.checkpoint.model_dump(exclude_none=True),
            "events_seq": self.events_seq,
            "segment": self.segments,
        }


@dataclass(frozen=True)
class PauseEnd:
    """How a pause ended.

    A pause asks the harness for a checkpoint, and then to stop. `acknowledged` says whether the harness acknowledged
    both. `request` is the user's request to pause, and `reason` a sentence about how the pause ended.
    """

    request: PauseRequest
    acknowledged: bool
    reason: str


class _Phase(Enum):
    CHECKPOINT = "checkpoint"
    STOP = "stop"
    END = "end"


class PauseDialogue:
    """Asks the harness of one attempt for a checkpoint and then to stop, and waits for each acknowledgement.

    Requests go through the control file; acknowledgements are events. Use the object only in the thread that watches
    the attempt.

    Args:
        folder: the trial's folder.
        control: the control file, in which the runner asks the harness to continue, to write a checkpoint, or to stop.
        events: the file of the harness's events.
        now_us: returns the current time, in microseconds since 1970.
    """

    def __init__(self, folder: TrialFolder, control: Path, events: Path, now_us: Callable[[], int]) -> None:
        self._folder = folder
        self._control = control
        self._tail = EventTail(events, folder.root)
        self._now_us = now_us
        self._request: PauseRequest | None = None
        self._phase = _Phase.CHECKPOINT
        self._deadline = 0.0
        self._version = ""

    @property
    def is_under_way(self) -> bool:
        """Whether the harness has been asked to pause."""
        return self._request is not None

    def step(self) -> PauseEnd | None:
        """Continue the pause if one is requested; call this repeatedly while the harness runs.

        A call reads the request to pause and the harness's new events, and sends the harness the next request when it
        is due. When the harness has exited, call `at_exit` instead.

        Returns:
            How the pause failed, if its time-out has passed; else None.

        Raises:
            OSError: the control file cannot be written.
        """
        if self._request is None:
            self._request = read_request(self._folder)
            if self._request is None:
                return None
            self._deadline = time.monotonic() + self._request.timeout_s
            # Acknowledgements of the new control file can only be in events that are still to come.
            self._tail.finish()
            self._ask(1, "checkpoint")
        self._take(self._tail.read() or [])
        if time.monotonic() < self._deadline:
            return None
        missing = {
            _Phase.CHECKPOINT: "did not acknowledge the checkpoint",
            _Phase.STOP: "acknowledged the checkpoint, but not the stop",
            _Phase.END: "acknowledged the stop, but did not end",
        }[self._phase]
        return PauseEnd(self._request, False, f"the harness {missing} within {self._request.timeout_s:g} s")

    def at_exit(self) -> PauseEnd | None:
        """Return how the pause ended; call this after the harness has exited.

        Return None if no pause was requested, or if the harness did not acknowledge both requests: the one for a
        checkpoint, and the one to stop.
        """
        if self._request is None:
            return None
        self._take(self._tail.finish())
        if self._phase is not _Phase.END:
            return None
        return PauseEnd(self._request, True, "the harness acknowledged the checkpoint and the stop")

    def _take(self, events: list[dict[str, Any]]) -> None:
        for event in events:
            if event.get("event_type") != "control_ack" or event.get("control_version") != self._version:
                continue
            if self._phase is _Phase.CHECKPOINT:
                self._phase = _Phase.STOP
                self._ask(2, "stop")
            elif self._phase is _Phase.STOP:
                self._phase = _Phase.END

    def _ask(self, seq: int, action: Literal["checkpoint", "stop"]) -> None:
        assert self._request is not None
        document = wire.control_document(
            format_time(self._now_us()), seq=seq, action=action, label=self._request.label, requested_by="lab_pause"
        )
        raw = wire.to_json_bytes(document)
        replace_plain(self._control, raw, below=self._folder.root)
        self._version = "sha256:" + hashlib.sha256(raw).hexdigest()


def ask(folder: TrialFolder, request: PauseRequest) -> bool:
    """Write a pause request into the folder of a running trial; return False if a valid request is already there.

    Raises:
        OSError: the folder is gone or cannot be written.
    """
    path = folder.root / REQUEST
    raw = request.model_dump_json().encode()
    while True:
        fresh = path.with_name(f".{request.request_id}.{REQUEST}")
        write_new(fresh, raw)
        try:
            # A link fails if the target exists, and appears with its content.
            os.link(fresh, path)
        except FileExistsError:
            if read_request(folder) is not None:
                return False
            # Torn by a crash.
            path.unlink(missing_ok=True)
        else:
            return True
        finally:
            fresh.unlink(missing_ok=True)


def read_request(folder: TrialFolder) -> PauseRequest | None:
    """Return the pause request in a trial's folder; None if the file is missing or invalid."""
    raw = read_plain(folder.root / REQUEST, _MAX_REQUEST_BYTES, below=folder.root)
    if raw is None:
        return None
    try:
        return PauseRequest.model_validate_json(raw)
    except ValidationError:
        return None


def read_paused(folder: TrialFolder) -> PausedTrial | None:
    """Return the record of a trial's pause; None if the trial is not paused.

    Raises:
        RunDamagedError: the record cannot be read.
    """
    path = folder.root / PAUSED
    try:
        path.lstat()
    except FileNotFoundError:
        return None
    raw = read_plain(path, _MAX_RECORD_BYTES, below=folder.root)
    if raw is None:
        raise damaged(path, "is not a regular file")
    try:
        return PausedTrial.model_validate_json(raw)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        raise damaged(
            path, f"cannot be read: {'.'.join(map(str, first['loc']))}: {plain_message(first['msg'])}"
        ) from error


def write_paused(folder: TrialFolder, record: PausedTrial) -> None:
    """Write the record of a trial's pause into the trial's folder, and delete the pause request there.

    Raises:
        OSError: the disk is full.
    """
    with replacing(folder.root / PAUSED, durable=True) as fresh:
        write_new(fresh, record.model_dump_json().encode())
    (folder.root / REQUEST).unlink(missing_ok=True)


def move_checkpoint(folder: TrialFolder, old: Path, new: Path) -> None:
    """Replace the beginning `old` of the checkpoint's path by `new` in the record of a trial's pause.

    A full path must change when the trial's folder is copied to another place. Do nothing if there is no record or no
    checkpoint, or if the path is not below `old`.

    Args:
        folder: the folder of the trial.
        old: the earlier path of the trial's folder.
        new: its new path.

    Raises:
        RunDamagedError: the record cannot be read.
        OSError: the disk is full.
    """
    # A harness without a sandbox names the full path of its checkpoint.
    paused = read_paused(folder)
    if paused is None or paused.checkpoint is None or not Path(paused.checkpoint.path).is_relative_to(old):
        return
    path = str(new / Path(paused.checkpoint.path).relative_to(old))
    checkpoint = paused.checkpoint.model_copy(update={"path": path})
    write_paused(folder, paused.model_copy(update={"checkpoint": checkpoint}))
