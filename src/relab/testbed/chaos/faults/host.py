"""Faults of the machine on which the target runs: a job that uses the processors, a full disk."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Any, Final

from relab.testbed.actions.operations.jobs import REPORT_JOB
from relab.testbed.actions.plant import PlantError
from relab.testbed.chaos.faults.base import Fault
from relab.testbed.chaos.ground import Ground
from relab.testbed.chaos.models import FaultParameters, Symptom
from relab.testbed.chaos.presence import Presence
from relab.testbed.layout import write_json

_BUSY_PER_CPU: Final = 4
_CHUNK: Final = bytes(1 << 16)
_NO_SPACE_BYTES: Final = 1 << 20
_DUMP: Final = "orders-export.dump"
ORDER_FILE: Final = "report-job.json"


class RunningReportJob:
    """Injector that runs the report job (a batch job with much processor time) beside the target.

    Args:
        ground: access to the testbed's processes, database, cache, network and flags.
        processes: number of processes of the job.
        nice: nice value of these processes, from 0 (same priority as the target) to 19 (lowest priority).
        seconds: how long the job works, in seconds; None to work without an end.
    """

    def __init__(self, ground: Ground, processes: int, *, nice: int, seconds: float | None = None) -> None:
        self._ground = ground
        self._order: dict[str, Any] = {"processes": processes, "nice": nice, "seconds": seconds}
        self._pid: int | None = None

    def set_level(self, level: float) -> None:
        """Start the report job, which uses much processor time; do nothing if the strength `level` is 0.

        Raises:
            PlantError: the job is already running, or the testbed has no component for the job.
        """
        if level <= 0:
            return
        with self._ground.changing:
            job = self._job()
            if job["pid"] is not None:
                raise PlantError(f"{REPORT_JOB} is already running; stop it first.")
            folder = self._ground.private.parent / "settings"
            # Readable for investigators: it shows the job's work, but not that it was injected.
            write_json(folder / ORDER_FILE, self._order, mode=0o644)
            self._ground.plant.start(REPORT_JOB)
            self._pid = self._job()["pid"]

    def end(self) -> None:
        """Stop the report job. If something else has stopped or restarted it since its start, do nothing."""
        with self._ground.changing:
            if self._pid is not None and self._job()["pid"] == self._pid:
                self._ground.plant.stop(REPORT_JOB)

    def _job(self) -> dict[str, Any]:
        found = self._ground.plant.components(REPORT_JOB)
        if not found:
            raise PlantError(f"This testbed has no component {REPORT_JOB!r}.")
        return found[0]


class FullDisk:
    """Injector that fills the target's volume with a large file.

    Raises:
        PlantError: the target's data folder is not a separate volume, so filling it would harm the machine.
    """

    def __init__(self, ground: Ground) -> None:
        folder = Path(ground.plant.settings()["data_dir"])
        if not folder.is_mount():
            raise PlantError(f"{folder} is not a separate volume; the machine's disk must not be filled.")
        self._path = folder / _DUMP
        self._is_made = False

    def set_level(self, level: float) -> None:
        """Resize this injector's large file to the share `level` (0 to 1) of the size of the target's volume.

        If the free space is too small, or `level` is 1, the file takes all free space. If something else, such as a
        repair, has deleted the file, do nothing.

        Raises:
            PlantError: the file cannot be written.
        """
        if self._is_made and not self._path.exists():
            return
        status = os.statvfs(self._path.parent)
        wanted = int(status.f_blocks * status.f_frsize * level)
        with self._path.open("ab", buffering=0) as file:
            self._is_made = True
            size = file.tell()
            if wanted < size:
                file.truncate(wanted)
            try:
                while size < wanted or level >= 1:
                    size += file.write(_CHUNK)
            except OSError as error:
                # The purpose is to fill the volume, so ENOSPC is expected.
                if error.errno != errno.ENOSPC:
                    raise PlantError(f"The target's volume: {error}") from error

    def end(self) -> None:
        """Delete the injector's large file, if it still exists."""
        self._path.unlink(missing_ok=True)


class SaturationFault(Fault[FaultParameters]):
    """The fault `cpu_saturation`: the report job (a batch job) keeps all processors busy.

    Episodes (tests of a responder) do not use this fault.
    """

    name = "cpu_saturation"
    title = "A job uses all processors"
    cause = "cpu_saturation"
    parameters = FaultParameters
    symptom = Symptom(
        "every route is slower, hardly so at a few requests a second",
        "the machine's processors are busy and its run queue is long, by processes of a job; no quota throttles the "
        "target",
        ("cpu_throttle", "batch_job", "db_slow_query"),
    )
    repairs = ("stop-job",)
    harms = ("restart-target", "restart-database", "restart-cache")
    # Linux favours processes that mostly sleep, so users hardly notice it (measured in docs/design/testbed.md).
    is_felt = False

    def injector(self, ground: Ground, given: FaultParameters) -> RunningReportJob:
        """Return an injector that starts the report job (a batch job with much processor time).

        Args:
            ground: access to the testbed's processes, database, cache, network and flags.
            given: the parameters. The job has about `4 * intensity` processes per processor of the machine.
        """
        most = (os.cpu_count() or 1) * _BUSY_PER_CPU
        return RunningReportJob(ground, max(round(most * given.intensity), 1), nice=0)

    def presence(self, ground: Ground, _given: FaultParameters) -> Presence:
        """Return an object that tests whether the report job (this fault's batch job) is running.

        `ground` gives access to the testbed's components.
        """
        return Presence(lambda: bool(ground.plant.components(REPORT_JOB)[0]["state"] == "running"))


class DiskFullFault(Fault[FaultParameters]):
    """The fault `disk_full`: the target cannot write, because its volume is full."""

    name = "disk_full"
    title = "The target's volume is full"
    cause = "disk_full"
    parameters = FaultParameters
    symptom = Symptom(
        "orders fail, reads succeed",
        "ENOSPC in the log, no free space on the volume",
        ("db_lock", "database_refuse"),
    )
    repairs = ("free-disk",)
    harms = ("restart-target", "restart-database", "flush-cache")
    needs = ("mount",)
    can_vary = True

    def injector(self, ground: Ground, _given: FaultParameters) -> FullDisk:
        """Return an injector that fills the volume (file system) of the target's data folder.

        `ground` gives access to the testbed's components.
        """
        return FullDisk(ground)

    def presence(self, ground: Ground, _given: FaultParameters) -> Presence:
        """Return an object that tests whether the target's volume has less than 1 MiB of free space.

        `ground` gives access to the testbed's components.
        """
        return Presence(lambda: _is_full(ground))


def _is_full(ground: Ground) -> bool:
    status = os.statvfs(ground.plant.settings()["data_dir"])
    return status.f_bavail * status.f_frsize < _NO_SPACE_BYTES
