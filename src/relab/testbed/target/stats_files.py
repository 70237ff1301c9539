"""The workers' statistics: one file per worker, overwritten several times a second and read by the other workers.

The file stays open, so that a worker without a free descriptor or disk space can still publish. The file contains a
checksum; if it does not match, the file was read during a write, and the reader tries again.
"""

from __future__ import annotations

import json
import os
import zlib
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Self

from relab.testbed.target.recorder import WorkerCounters

STALE_AFTER_S: Final = 1.5
"""A worker counts as blocked if its statistics file is older than this; it then does not answer requests either."""

_HEAD_BYTES = 16
_READ_ATTEMPTS = 5


@dataclass(frozen=True, slots=True)
class WorkerStats:
    """The published statistics of one worker.

    Attributes:
        worker: the worker's number, from 1.
        pid: the id of the worker's process.
        written_s: time of publication, by the machine's monotonic clock.
        started_s: start of the worker, by the same clock.
        gauges: current values of the worker's parts, such as `pool`, `limiter` and `process`.
        seconds: `{second of the monotonic clock: counters}`.
        totals: the counters since the start of the worker.
    """

    worker: int
    pid: int
    written_s: float
    started_s: float
    gauges: dict[str, Any]
    seconds: dict[int, WorkerCounters]
    totals: WorkerCounters

    @classmethod
    def read(cls, document: dict[str, Any]) -> Self:
        """Return the statistics of a worker from `document`, the parsed JSON of the worker's statistics file."""
        counted = document["counted"]
        return cls(
            document["worker"],
            document["pid"],
            document["written_s"],
            document["started_s"],
            document["gauges"],
            {int(moment): WorkerCounters.read(wire) for moment, wire in counted["seconds"].items()},
            WorkerCounters.read(counted["totals"]),
        )


def path_of(stats_dir: Path, worker: int) -> Path:
    """Return the path of the file with a worker's statistics, in the folder `stats_dir`."""
    return stats_dir / f"worker-{worker}.stats"


class StatsWriter:
    """Writes one worker's statistics to a file, which stays open as long as the worker runs."""

    def __init__(self, stats_dir: Path, worker: int) -> None:
        stats_dir.mkdir(parents=True, exist_ok=True)
        self._descriptor = os.open(path_of(stats_dir, worker), os.O_RDWR | os.O_CREAT | os.O_TRUNC, 0o644)

    def write(self, text: str) -> None:
        """Overwrite the worker's statistics file.

        Args:
            text: the statistics as JSON, in the format of `WorkerStats.read`.

        Raises:
            OSError: the file cannot be written.
        """
        body = text.encode()
        os.pwrite(self._descriptor, b"%08x%08x" % (len(body), zlib.crc32(body)) + body, 0)

    def close(self) -> None:
        """Close the worker's statistics file; its content stays."""
        os.close(self._descriptor)


def read_stats(stats_dir: Path, worker: int) -> WorkerStats | None:
    """Return the last statistics of the worker with this number from its file in `stats_dir`.

    Return None if the file does not exist or cannot be read.
    """
    for _ in range(_READ_ATTEMPTS):
        with suppress(OSError):
            raw = path_of(stats_dir, worker).read_bytes()
            if (body := _checked(raw)) is not None:
                return WorkerStats.read(json.loads(body))
    return None


def _checked(raw: bytes) -> bytes | None:
    try:
        length, check = int(raw[:8], 16), int(raw[8:_HEAD_BYTES], 16)
    except ValueError:
        return None
    body = raw[_HEAD_BYTES : _HEAD_BYTES + length]
    return body if len(body) == length and zlib.crc32(body) == check else None
