"""The journal of a run: one line for each trial that has a result. `lab run --continue` runs the trials without a line.

Each line ends with a checksum over itself and the checksum of the previous line (a hash chain), so that every reader
detects a changed, removed, inserted or moved line. The first line contains the digest of the run's manifest. A crash
can leave an incomplete last line, without a line end; that does not count as damage. Lines missing at the end are
detected through the attestation, which records the length of the journal each time the run ends.

The checksums have no key: they detect damage and edits, but not a person who recomputes them. To detect that as well,
keep the last checksum elsewhere; it is in the attestation and in the answer of `lab run --json`.
"""

from __future__ import annotations

import hashlib
import io
import os
import re
import threading
from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from relab.core.atomic_files import replacing
from relab.experiments.errors import damaged
from relab.experiments.models import REQUIRED_OF_A_ROW, TrialOutcome
from relab.experiments.records.file_names import MANIFEST
from relab.experiments.records.journal_lines import (
    FORMAT,
    START,
    Head,
    checked_line,
    has_check,
    header_line,
    parsed_line,
    read_checked,
    read_unchecked,
)
from relab.experiments.records.seals import digest_of_file, read_attestation

NAME: Final = "journal.jsonl"
WITHDRAWN: Final = "withdrawn"
"""The key of a line that withdraws the result of a trial, which then has none; its value is the reason."""
_WITHDRAWAL: Final = re.compile(rb'\{"line":[0-9]+,"withdrawn":')
_OUTCOMES: Final = frozenset(outcome.value for outcome in TrialOutcome)
_FLUSH_AFTER_S: Final = 1.0


class Journal:
    """Appends lines to the journal of a run, each completely or not at all; thread-safe.

    A line survives a crash of this process when `append` has returned. It survives a power failure once the file has
    been flushed to the disk (fsync), which happens about a second after `append`, and at `close`.
    """

    def __init__(self, run_dir: Path) -> None:
        self.path = run_dir / NAME
        self._run_dir = run_dir
        self._lock = threading.Lock()
        self._file: io.FileIO | None = None
        self._end = 0
        self._head = Head(0, START)
        self._flush: threading.Timer | None = None
        self._flush_error: OSError | None = None

    def open(self) -> set[str]:
        """Open the journal for appending; return the ids of the trials that have a result.

        A trial whose result was withdrawn (so that it runs again) has no result. An incomplete last line, left by a
        crash, is removed. A journal without checksums (of an earlier version) is rewritten with checksums.

        Raises:
            RunDamagedError: a line was changed, or lines are missing.
        """
        done: set[str] = set()
        for line in _lines(self._run_dir):
            self._end = line.end
            self._head = line.head
            if line.entry is not None:
                trial_id = line.entry["row"]["trial_id"]
                (done.discard if WITHDRAWN in line.entry else done.add)(trial_id)
        if done and not _is_checked(self.path):
            self._head, self._end = _add_checks(self._run_dir)
        # Unbuffered: a buffer could write a failed line later, after another line.
        self._file = io.FileIO(self.path, "ab")
        self._file.truncate(self._end)
        return done

    def append(self, entry: Mapping[str, Any]) -> None:
        """Append a line with the result of a trial, or with the withdrawal of an earlier result.

        The key `row` of `entry` has the trial's row in the results. An entry with the key `WITHDRAWN` is a withdrawal.

        Raises:
            OSError: the disk is full, or earlier lines could not be flushed to the disk.
        """
        with self._lock:
            if self._flush_error is not None:
                raise self._flush_error
            if not self._end:
                self._write(*header_line(digest_of_file(self._run_dir / MANIFEST)))
            self._write(*checked_line(entry, self._head))
            if self._flush is None:
                # A timer flushes the file, because the next line may be appended only after a long trial.
                self._flush = threading.Timer(_FLUSH_AFTER_S, self._flush_lines)
                self._flush.daemon = True
                self._flush.start()

    def close(self) -> None:
        """Flush the journal to the disk (fsync) and close it; do nothing if it is not open.

        Raises:
            OSError: lines could not be flushed to the disk, by this call or by an earlier flush.
        """
        with self._lock:
            if self._file is None:
                return
            file, self._file = self._file, None
            if self._flush is not None:
                self._flush.cancel()
                self._flush = None
            with file:
                os.fsync(file.fileno())
            if self._flush_error is not None:
                # Linux reports a failed write only once, so this flush may succeed although lines are lost.
                raise self._flush_error

    def _flush_lines(self) -> None:
        with self._lock:
            self._flush = None
            if self._file is None:
                return
            try:
                os.fsync(self._file.fileno())
            except OSError as error:
                self._flush_error = error

    def _write(self, line: bytes, head: Head) -> None:
        assert self._file is not None
        try:
            written = 0
            while written < len(line):
                written += self._file.write(line[written:])
        except OSError:
            self._file.truncate(self._end)
            raise
        self._end += len(line)
        self._head = head


def begin_journal(run_dir: Path, manifest: bytes) -> None:
    """Create the journal of a run with its first line, which records the digest of the run's manifest.

    `manifest` is the content of the manifest's file.

    Raises:
        OSError: the disk is full.
    """
    (run_dir / NAME).write_bytes(header_line(f"sha256:{hashlib.sha256(manifest).hexdigest()}")[0])


def read_journal(run_dir: Path, on_head: Callable[[Head], None] = lambda _: None) -> Iterator[dict[str, Any]]:
    """Yield the journal entry of each trial with a result, in the order in which the trials ended.

    The key `row` of an entry is the trial's row in the results. Withdrawn results (of trials that run again) are left
    out.

    Args:
        run_dir: the folder of the run.
        on_head: is called after each line that has a checksum, with the head of the journal so far (number of lines and
            last checksum).

    Raises:
        RunDamagedError: a line was changed, or lines are missing.
    """
    seen: set[str] = set()
    withdrawn = _withdrawals(run_dir / NAME)
    for number, line in enumerate(_lines(run_dir), start=1):
        if line.head.check != START:
            on_head(line.head)
        if line.entry is None or WITHDRAWN in line.entry:
            continue
        trial_id = line.entry["row"]["trial_id"]
        if trial_id not in seen and number > withdrawn.get(trial_id, 0):
            seen.add(trial_id)
            yield line.entry


def withdrawn_entries(run_dir: Path) -> Iterator[dict[str, Any]]:
    """Yield the journal entry of each withdrawn result, in the order of the withdrawals.

    A result is withdrawn when its trial is run again. A trial that was run again several times has several entries.

    Raises:
        RunDamagedError: a line was changed, or lines are missing.
    """
    if _withdrawals(run_dir / NAME):
        yield from (line.entry for line in _lines(run_dir) if line.entry is not None and WITHDRAWN in line.entry)


def _withdrawals(path: Path) -> dict[str, int]:
    """Return `{trial id: number of the line that last withdrew the trial's result}`; checksums are not checked."""
    if not path.exists():
        return {}
    found: dict[str, int] = {}
    with path.open("rb") as file:
        for number, line in enumerate(file, start=1):
            if _WITHDRAWAL.match(line) and line.endswith(b"\n"):
                found[_check_entry(path, number, parsed_line(path, number, line))["row"]["trial_id"]] = number
    return found


def check_manifest(run_dir: Path) -> None:
    """Check a run's manifest against the digest in the first line of the run's journal.

    A journal of an earlier version, without checksums, has no such digest; the manifest is then not checked.

    Raises:
        RunDamagedError: the manifest, the first line or the attestation was changed.
    """
    with closing(_lines(run_dir)) as lines:
        next(lines, None)


def journal_head(run_dir: Path) -> Head | None:
    """Return the head of a run's journal: the number of lines after the first one, and the last checksum.

    Return None if the journal has no lines, or has no checksums because an earlier version wrote it.

    Raises:
        RunDamagedError: a line was changed, or lines are missing.
    """
    last = None
    for last in _lines(run_dir):  # noqa: B007 the last one is wanted
        pass
    return last.head if last is not None and last.head.check != START else None


@dataclass(frozen=True, slots=True)
class _Line:
    entry: dict[str, Any] | None
    """None for the first line, which belongs to no trial."""
    end: int
    head: Head


def _lines(run_dir: Path) -> Generator[_Line]:
    """Yield the complete lines of a journal, after a check against their checksums and the run's attestation.

    The attestation (the digests of the run's records) is written when the run ends.

    Raises:
        RunDamagedError: a line was changed, or lines are missing.
    """
    path = run_dir / NAME
    attested = _attested(run_dir)
    head = Head(0, START)
    end = 0
    is_checked = _is_checked(path)
    with path.open("rb") if path.exists() else io.BytesIO() as file:
        for number, line in enumerate(file, start=1):
            if not line.endswith(b"\n"):
                break
            end += len(line)
            if is_checked:
                document, head = read_checked(path, number, line, head)
            else:
                document, head = read_unchecked(path, number, line), Head(head.entries + 1, START)
            if is_checked and number == 1:
                _check_header(path, document, run_dir)
                yield _Line(None, end, head)
                continue
            if attested is not None and head.entries == attested.entries and head.check != attested.check:
                raise damaged(path, "differs from the line in the attestation", line=number)
            entry = _check_entry(path, number, document)
            if not is_checked:
                _check_row(path, number, entry["row"])
            yield _Line(entry, end, head)
    if attested is not None and head.entries < attested.entries:
        raise damaged(
            path, f"has {head.entries:,} trials, but the attestation names {attested.entries:,}: lines are missing"
        )


def _attested(run_dir: Path) -> Head | None:
    """Return the head of the journal (number of lines, last checksum) that the run's attestation records.

    The attestation (the digests of the run's records) is written when the run ends. If the run was continued
    afterwards, its journal is longer. Return None without an attestation, or if it records no head.
    """
    document = read_attestation(run_dir)
    said = document["ext"].get("journal") if document is not None else None
    if said is None:
        return None
    return Head(said["entries"], said["head"].removeprefix("sha256:"))


def _is_checked(path: Path) -> bool:
    """Return whether the lines of a journal have checksums; False for an empty journal, or one of an earlier version.

    Raises:
        RunDamagedError: the manifest names a format with checksums, but the first line has none.
    """
    manifest = path.with_name(MANIFEST)
    if not path.exists():
        return False
    with path.open("rb") as file:
        first = file.readline()
    if has_check(first):
        return True
    if first.endswith(b"\n") and manifest.exists() and f'"{FORMAT}"'.encode() in manifest.read_bytes():
        raise damaged(path, "has no checksum, although this run's journal has checksums", line=1)
    return False


def _check_header(path: Path, document: Mapping[str, Any], run_dir: Path) -> None:
    if document.get("journal") != FORMAT:
        raise damaged(path, f"is not the first line of a {FORMAT}: lines were removed or changed", line=1)
    manifest = run_dir / MANIFEST
    digest = digest_of_file(manifest)
    if digest != document.get("manifest"):
        raise damaged(
            manifest,
            f"has another digest than the first line of {path} names: it was changed, or belongs to another run",
        )


def _check_entry(path: Path, number: int, document: dict[str, Any]) -> dict[str, Any]:
    row = document.get("row")
    if not isinstance(row, dict) or not isinstance(row.get("trial_id"), str):
        raise damaged(path, "is not a line of a journal: it has no row with a trial_id", line=number)
    return document


def _check_row(path: Path, number: int, row: Mapping[str, Any]) -> None:
    """Check the fields, the outcome and `success` of a result row that has no checksum.

    Raises:
        RunDamagedError: a field is missing or invalid; the error names the journal `path` and the line `number`.
    """
    missing = sorted(REQUIRED_OF_A_ROW - row.keys())
    if missing:
        raise damaged(path, f"is not a line of a journal: its row has no {missing[0]}", line=number)
    if row["outcome"] not in _OUTCOMES or not isinstance(row["success"], bool):
        raise damaged(path, f"is not a line of a journal: its outcome is {row['outcome']!r}", line=number)


def _add_checks(run_dir: Path) -> tuple[Head, int]:
    """Add checksums to a journal that an earlier version wrote without them; return its new head and size in bytes.

    The head is the number of lines after the first one, and the checksum of the last line.
    """
    path = run_dir / NAME
    line, head = header_line(digest_of_file(run_dir / MANIFEST))
    size = 0
    with replacing(path, durable=True) as fresh, fresh.open("wb") as file:
        size += file.write(line)
        for entry in read_journal(run_dir):
            line, head = checked_line(entry, head)
            size += file.write(line)
    return head, size
