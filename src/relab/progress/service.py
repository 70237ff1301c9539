"""Publish, read and delete progress events."""

from __future__ import annotations

from collections.abc import Collection

from relab.core.clock import Clock
from relab.progress import repository
from relab.progress.models import ProgressEvent
from relab.progress.signal import ProgressSignal
from relab.storage import Database, UnitOfWork


class ProgressLog:
    """Stores and reads progress events in the database. Each event has a topic: the id of a piece of work."""

    def __init__(self, database: Database, clock: Clock, signal: ProgressSignal) -> None:
        self._database = database
        self._clock = clock
        self._signal = signal

    def publish(self, topic: str, *, status: str, step: str, pct: int, message: str) -> None:
        """Append an event to a topic, in a transaction of its own.

        Args:
            topic: the id of the work, such as an analysis.
            status: the status of the work; `done` and `failed` end it.
            step: the name of the current step.
            pct: the completed part of the work in percent.
            message: a sentence for people.
        """
        with self._database.write(durable=False) as unit:
            self.publish_within(unit, topic, status=status, step=step, pct=pct, message=message)

    def publish_within(self, unit: UnitOfWork, topic: str, *, status: str, step: str, pct: int, message: str) -> None:
        """Append an event to a topic in the transaction `unit`, so that it becomes visible when the caller commits.

        Args:
            unit: the transaction of the caller.
            topic: the id of the work, such as an analysis.
            status: the status of the work; `done` and `failed` end it.
            step: the name of the current step.
            pct: the completed part of the work in percent.
            message: a sentence for people.
        """
        at = self._clock.now_us()
        repository.append(unit.session, topic, status=status, step=step, pct=pct, message=message, at=at)
        unit.on_commit(self._signal.notify)

    def read_after(self, topic: str, seq: int = 0) -> list[ProgressEvent]:
        """Return the events of a topic with a number greater than `seq`, in order."""
        with self._database.read() as session:
            return repository.read_after(session, topic, seq)

    def latest_seqs(self, topics: Collection[str]) -> dict[str, int]:
        """Return the number of each topic's last event, as `{topic: number}`; topics without events are left out."""
        with self._database.read() as session:
            return repository.latest_seqs(session, topics)

    def delete_in(self, unit: UnitOfWork, topics: Collection[str]) -> None:
        """Delete all events of these topics in the caller's transaction."""
        repository.delete_topics(unit.session, topics)
