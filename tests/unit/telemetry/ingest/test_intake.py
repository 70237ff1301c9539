"""The intake of telemetry: submissions while it stops, and the memory of rejected bodies."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from relab.core.clock import SystemClock
from relab.core.errors import MalformedBodyError
from relab.storage import Database
from relab.storage.group_commit import WriterStoppedError
from relab.telemetry.ingest.intake import TelemetryIntake


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


class _Body:
    """A request's body, which a weak reference may refer to."""


@pytest.fixture
def without_collections() -> Iterator[None]:
    """Switch the cyclic garbage collector off, so that only reference counts free memory."""
    gc.collect()
    gc.disable()
    yield
    gc.enable()


@pytest.mark.usefixtures("without_collections")
def test_rejected_body_is_freed_without_a_garbage_collection(tmp_path: Path) -> None:
    database = Database.open(f"sqlite:///{tmp_path / 'relab.db'}")
    intake = TelemetryIntake(database, SystemClock(), shard=0)
    intake.start()
    bodies: list[weakref.ref[_Body]] = []

    def read() -> Any:
        body = _Body()
        bodies.append(weakref.ref(body))
        raise MalformedBodyError("The body is not valid JSON.")

    assert type(intake.submit(read).exception(60)) is MalformedBodyError
    intake.stop()

    assert [body() for body in bodies] == [None]
    database.close()
