"""A process that appends to a history of rollouts: `python -m support.rollouts.history_child PATH NAME TIMES`."""

from __future__ import annotations

import sys
from pathlib import Path

from relab.rollouts.reports.history import append_history


def main(path: str, name: str, times: str) -> None:
    """Append on request."""
    print("ready", flush=True)
    sys.stdin.readline()
    for number in range(int(times)):
        append_history(Path(path), {"rollout_id": f"{name}-{number}"})


if __name__ == "__main__":
    main(*sys.argv[1:])
