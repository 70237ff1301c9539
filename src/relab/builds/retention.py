"""Delete old builds with their logs, old decisions of the build optimizer and old suggestions of fixes.

This needs no pause of servers or running builds.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass

from relab.builds import repository
from relab.storage import Database

DEFAULT_BATCH = 200


@dataclass(frozen=True, slots=True)
class PrunedBuilds:
    """How many builds, optimizer decisions and suggestions of fixes were deleted, or would be deleted."""

    builds: int = 0
    decisions: int = 0
    suggestions: int = 0

    def __add__(self, other: PrunedBuilds) -> PrunedBuilds:
        return PrunedBuilds(
            self.builds + other.builds, self.decisions + other.decisions, self.suggestions + other.suggestions
        )


class BuildRetention:
    """Deletes old builds, decisions of the build optimizer and suggestions of fixes; running builds are kept.

    The counters of `/metrics` and the agent runs in telemetry are kept too.

    Args:
        database: the database of the builds.
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    def count(self, before_us: int) -> PrunedBuilds:
        """Return how many rows of each kind `prune` would delete; `before_us` is a time in microseconds since 1970."""
        with self._database.read() as session:
            return PrunedBuilds(*repository.count_old(session, before_us))

    def prune(self, before_us: int, *, batch: int = DEFAULT_BATCH) -> Iterator[PrunedBuilds]:
        """Delete builds, optimizer decisions and suggested fixes that are older than a time, in several transactions.

        The oldest are deleted first. The age of a build counts from its start. If the caller stops early, the next call
        deletes the rest.

        Args:
            before_us: the time, in microseconds since 1970.
            batch: the maximum number of builds, of decisions, and of suggestions in one transaction.

        Yields:
            The numbers that each transaction deleted.

        Raises:
            UnavailableError: the database cannot be used right now.
        """
        while True:
            began_s = time.monotonic()
            with self._database.write() as unit:
                done = PrunedBuilds(
                    repository.delete_old_builds(unit.session, before_us, limit=batch),
                    repository.delete_old_decisions(unit.session, before_us, limit=batch),
                    repository.delete_old_suggestions(unit.session, before_us, limit=batch),
                )
            if done == PrunedBuilds():
                return
            yield done
            if self._database.is_sqlite:
                # SQLite's only write lock has no fair queue, so leave other processes as much time to acquire it.
                time.sleep(time.monotonic() - began_s)
