"""Import logs of Inspect as runs, and export runs as logs: the service that the CLI calls."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from relab.core.clock import Clock
from relab.experiments.inspect_logs.exporting import Exported, export_run
from relab.experiments.inspect_logs.importing import Imported, ImportOptions, import_logs
from relab.experiments.records.run_folder import open_run
from relab.experiments.results.listing import find_run
from relab.experiments.results.telemetry_link import TelemetryLink

if TYPE_CHECKING:
    from relab.telemetry.service import TelemetryService

__all__ = ["ImportOptions", "InspectLogService"]


class InspectLogService:
    """Imports logs of Inspect AI as runs of experiments, and exports runs as logs.

    Args:
        clock: gives the time of an import, for the documents of the imported run.
        telemetry: stores each imported sample as an agent run; None to store none.
    """

    def __init__(self, clock: Clock, telemetry: TelemetryService | None = None) -> None:
        self._clock = clock
        self._telemetry = telemetry

    def import_logs(self, root: Path, logs: Sequence[Path], options: ImportOptions) -> list[Imported]:
        """Import logs: create one run for each task of Inspect, and store the samples as agent runs in telemetry.

        If telemetry cannot store some agent runs, each returned run has a warning with their number.

        Args:
            root: the folder of the project.
            logs: the `.eval` files.
            options: which score decides about success, and which variant is the baseline.

        Raises:
            InspectLogError: a log cannot be imported. The runs of tasks that were imported before are kept.
            InspectLogsDifferError: logs of one task have different samples or scorers.
            InspectLogImportedError: the project already has a run of these logs.
        """
        link = TelemetryLink(self._telemetry)
        link.start()
        try:
            found = import_logs(root, logs, options, self._clock, link.send_run)
        finally:
            link.close()
        if not link.failed:
            return found
        lost = f"{link.failed:,} agent runs could not be stored: {link.first_error}"
        return [replace(item, warnings=[*item.warnings, lost]) for item in found]

    def export_run(self, root: Path, run: Path, folder: Path) -> Exported:
        """Write one log of Inspect AI (`.eval`) for each variant of a run that has started trials.

        A log has only the trials that have started.

        Args:
            root: the folder of the project.
            run: the folder or the id of the run.
            folder: the folder of the logs; created if it is missing.

        Raises:
            RunNotFoundError, RunDamagedError: there is no such run, or its journal is damaged.
            InspectExportError: a log exists already, or no trial of the run has started.
        """
        return export_run(open_run(find_run(root, run)), folder)
