"""Return the line that replaces the middle of a shortened log, and read shortened logs.

The lines of a shortened log are read with their numbers in the whole log.
"""

from __future__ import annotations

import io
import re
from dataclasses import replace
from typing import Final

from relab.builds.logs.models import BuildLog
from relab.builds.logs.reading import read_log

_MIDDLE: Final = re.compile(
    r"\[relab left out [0-9,]{1,20} bytes of the middle of this log;"
    r" it goes on with line ([1-9][0-9]{0,2}(?:,[0-9]{3}){0,4})\]"
)


def middle_line(left_out_bytes: int, next_line: int) -> str:
    """Return the line that replaces the middle of a log when the log is shortened.

    Args:
        left_out_bytes: the size of the middle.
        next_line: the number of the line after the middle, in the whole log.
    """
    return f"[relab left out {left_out_bytes:,} bytes of the middle of this log; it goes on with line {next_line:,}]\n"


def read_shortened_log(text: str) -> BuildLog:
    """Read a log that may have been shortened, and return its lines with their numbers in the whole log.

    In a shortened log, one line replaces the middle, and gives the number of the next line. An earlier version of relab
    did not write this number; the lines after the middle are then numbered as in the shortened text.
    """
    log = read_log(io.BytesIO(text.encode()))
    for position, line in enumerate(log.lines):
        found = _MIDDLE.fullmatch(line.text)
        if found is None:
            continue
        last_left_out = int(found[1].replace(",", "")) - 1
        added = last_left_out - line.number
        moved = tuple(replace(each, number=each.number + added) for each in log.lines[position + 1 :])
        left_out = (line.number, last_left_out) if added >= 0 else None
        lines = (*log.lines[: position + 1], *moved)
        return replace(log, lines=lines, total_lines=log.total_lines + added, left_out=left_out)
    return log
