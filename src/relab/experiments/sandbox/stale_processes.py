"""End the processes that the trials of a run left when the runner was killed.

In a sandbox without isolation, harnesses continue to run after the runner was killed.
"""

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


def end_stale_processes(run_dir: Path) -> int:
    """Kill the processes that earlier trials of a run left behind; return the number of killed processes.

    `run_dir` is the folder of the run. The processes are found on Linux only, by an environment variable that each
    trial gets. So a process that cleared its environment is not found.
    """
    # Resolve links, because the trials may have been started with another path of the same folder.
    real = run_dir.resolve()
    ended: set[int] = set()
    # A process may start others during the search, so search again.
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
