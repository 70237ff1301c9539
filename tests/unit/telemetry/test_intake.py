"""The intake of telemetry: submissions while it stops."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from relab.core.clock import SystemClock
from relab.storage import Database
from relab.storage.group_commit import WriterStoppedError
from relab.telemetry.intake import TelemetryIntake


class _Stopping(TelemetryIntake):
    """An intake that stops after each check of whether it runs."""

    def _running(self) -> Any:
        threads = super()._running()
        self.stop()
        return threads


@pytest.mark.parametrize("method", ["submit", "read"])
def test_submission_while_the_intake_stops_is_rejected(method: str, tmp_path: Path) -> None:
    database = Database.open(f"sqlite:///{tmp_path / 'relab.db'}")
    intake = _Stopping(database, SystemClock(), shard=0)
    intake.start()

    with pytest.raises(WriterStoppedError):
        getattr(intake, method)(lambda: None)
    database.close()
