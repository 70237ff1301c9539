"""Write latencies in the log format of HdrHistogram, which its tools read: one line per time window.

See HistogramLogWriter of https://github.com/HdrHistogram/HdrHistogram. The Python library's writer is not used,
because it truncates the maximum to whole milliseconds and cannot write the start time.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime
from typing import TextIO

from relab.load.models import Window

VERSION = "1.3"


def write_hdr_log(file: TextIO, windows: Iterable[Window], *, started_at_us: int) -> None:
    """Write the latencies of time windows to a text file, in HdrHistogram's log format, one line per window.

    The columns are: start of the window in seconds after the start of the load, length in seconds, maximum latency in
    ms, and histogram in ns.

    Args:
        file: the text file, open for writing.
        windows: the windows, in order.
        started_at_us: start of the load, in microseconds since 1970.
    """
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
