"""Publishing progress events, and reading them back."""

from __future__ import annotations

from collections.abc import Collection

from relab.core.clock import Clock
from relab.progress import repository
from relab.progress.models import ProgressEvent
from relab.progress.signal import ProgressSignal
from relab.storage import Database, UnitOfWork


class ProgressLog:
    """The events of long work, by topic; every process reads the same rows."""

    def __init__(self, database: Database, clock: Clock, signal: ProgressSignal) -> None:
        self._database = database
        self._clock = clock
        self._signal = signal

    def publish(self, topic: str, *, status: str, step: str, pct: int, message: str) -> None:
        """Add an event in a transaction of its own."""
        with self._database.write(durable=False) as unit:
            self.publish_within(unit, topic, status=status, step=step, pct=pct, message=message)

    def publish_within(self, unit: UnitOfWork, topic: str, *, status: str, step: str, pct: int, message: str) -> None:
        """Add an event to the caller's transaction, so that it is seen together with what it tells of."""
        at = self._clock.now_us()
        repository.append(unit.session, topic, status=status, step=step, pct=pct, message=message, at=at)
        unit.on_commit(self._signal.notify)

    def read_after(self, topic: str, seq: int = 0) -> list[ProgressEvent]:
        """Return the events of a topic with a number greater than `seq`, in order."""
        with self._database.read() as session:
            return repository.read_after(session, topic, seq)

    def latest_seqs(self, topics: Collection[str]) -> dict[str, int]:
        """Return the number of the last event of each topic that has one."""
        with self._database.read() as session:
            return repository.latest_seqs(session, topics)

    def forget_within(self, unit: UnitOfWork, topics: Collection[str]) -> None:
        """Delete the events of topics in the caller's transaction."""
        repository.delete_topics(unit.session, topics)
