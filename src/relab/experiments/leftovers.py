"""What a run that was killed has left running: plain local harnesses outlive their runner."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from pathlib import Path
from typing import Final

from relab.experiments.sandbox.process import MARKER

_SWEEPS: Final = 100
_BETWEEN_SWEEPS_S: Final = 0.02


def end_leftovers(run_dir: Path) -> int:
    """End the processes of earlier trials of a run, told by the trial's own variable; return how many there were.

    Looks again until none is found, because one may have started another meanwhile. Only Linux tells what the
    environment of a process is; elsewhere nothing is found, and nowhere a process that has cleared its own.
    """
    # The run may be named by another path than the one that its trials were given.
    real = run_dir.resolve()
    ended: set[int] = set()
    for _ in range(_SWEEPS):
        left = [pid for pid in _processes() if _is_of(pid, real)]
        if not left:
            break
        for pid in left:
            with contextlib.suppress(OSError):
                os.kill(pid, signal.SIGKILL)
        ended.update(left)
        time.sleep(_BETWEEN_SWEEPS_S)
    return len(ended)


def _processes() -> list[int]:
    own = os.getpid()
    return [int(folder.name) for folder in Path("/proc").glob("[0-9]*") if int(folder.name) != own]


def _is_of(pid: int, run_dir: Path) -> bool:
    prefix = f"{MARKER}=".encode()
    with contextlib.suppress(OSError):
        for variable in Path(f"/proc/{pid}/environ").read_bytes().split(b"\0"):
            if variable.startswith(prefix):
                return Path(os.fsdecode(variable.removeprefix(prefix))).resolve().is_relative_to(run_dir)
    return False
