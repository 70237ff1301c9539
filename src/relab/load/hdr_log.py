"""The log format of HdrHistogram, one line for each window, for the tools that read it.

See HistogramLogWriter of https://github.com/HdrHistogram/HdrHistogram. Written here, because the Python library's
writer cuts the maximum to whole milliseconds and has no start time that works.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime
from typing import TextIO

from relab.load.models import Window

VERSION = "1.3"


def write_hdr_log(file: TextIO, windows: Iterable[Window], *, started_at_us: int) -> None:
    """Write the latencies of windows; values are in ns, the maximum of a line in ms, its times in s after the start."""
    started = datetime.fromtimestamp(started_at_us / 1e6, UTC)
    seconds = f"{started_at_us / 1e6:.3f} (seconds since epoch)"
    file.write(f"#[Histogram log format version {VERSION}]\n")
    file.write(f"#[StartTime: {seconds}, {started:%a %b %d %H:%M:%S UTC %Y}]\n")
    file.write(f"#[BaseTime: {seconds}]\n")
    file.write('"StartTimestamp","Interval_Length","Interval_Max","Interval_Compressed_Histogram"\n')
    for window in windows:
        highest_ms = window.latency.max_ms or 0.0
        length_s = window.end_s - window.start_s
        file.write(f"{window.start_s:.3f},{length_s:.3f},{highest_ms:.3f},{window.latency.histogram}\n")
