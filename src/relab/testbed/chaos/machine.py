"""Find out which requirements of faults (root, control groups, a separate volume) this machine does not meet."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from pathlib import Path

from relab.testbed.actions.plant import Plant


class Impossible(Mapping[str, str]):
    """A mapping of the requirements that this machine does not meet: `{requirement: reason}`.

    Faults may have the requirements `root`, `cgroup` and `mount`. The first use of the mapping queries the supervisor.

    Args:
        plant: operators' access to the testbed; the mapping uses it to query the supervisor.
    """

    def __init__(self, plant: Plant) -> None:
        self._plant = plant
        self._found: dict[str, str] | None = None

    def __getitem__(self, need: str) -> str:
        """Return the reason why this machine does not meet the requirement `need`, such as `cgroup`."""
        return self._known()[need]

    def __iter__(self) -> Iterator[str]:
        """Iterate over the requirements that this machine does not meet."""
        return iter(self._known())

    def __len__(self) -> int:
        """Return the number of requirements that this machine does not meet."""
        return len(self._known())

    def _known(self) -> dict[str, str]:
        if self._found is None:
            self._found = _look(self._plant)
        return self._found


def _look(plant: Plant) -> dict[str, str]:
    found: dict[str, str] = {}
    if os.geteuid() != 0:
        found["root"] = "the testbed does not run as root"
    available = plant.limits_available()
    missing = [name for name in ("cpu_pct", "memory_mb") if available.get(name) is None]
    if missing:
        found["cgroup"] = f"this process may not write a control group for {' and '.join(missing)}"
    folder = Path(plant.settings()["data_dir"])
    if not folder.is_mount():
        found["mount"] = "the target's data folder is not a separate volume, and the machine's disk must not be filled"
    return found
