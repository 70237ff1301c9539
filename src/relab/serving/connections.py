"""Which connections the server keeps: limits in total and by client, and room for health checks."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from enum import Enum
from typing import Final, Protocol

import structlog

from relab.serving.limits import HttpLimits

REPEAT_LOG_S = 10.0
"""A reason that goes on is logged again after so long, with the number of times: a client must not fill the log."""

_log = structlog.get_logger("relab.serve")


class Connection(Protocol):
    """One open connection, as the registry sees it."""

    @property
    def is_waiting(self) -> bool:
        """Whether it waits for the headers of a request, so that closing it loses no work."""
        ...

    def evict(self) -> None:
        """Close the connection at once."""
        ...

    def check(self, now_s: float) -> None:
        """Close the connection if one of its time limits is over; `now_s` is the event loop's time."""
        ...


class Place(Enum):
    """What a new connection may do."""

    FULL = "full"
    HEALTH_ONLY = "health_only"


class Connections:
    """The open connections of one server. Lives on one event loop.

    Args:
        capacity: file descriptors that connections and streams may use together.
        count: called with the code of each refusal, for metrics.
        clock: monotonic seconds.
    """

    def __init__(
        self,
        limits: HttpLimits,
        *,
        capacity: int,
        count: Callable[[str], None] = lambda _code: None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.limits: Final = limits
        self.capacity: Final = capacity
        self._count = count
        self._clock = clock
        self._by_client: dict[str, dict[Connection, None]] = {}
        self._total = 0
        self._health: dict[Connection, None] = {}
        self._streams: dict[Connection, None] = {}
        self._noted: dict[str, tuple[float, int]] = {}

    @property
    def open_count(self) -> int:
        """Open connections, without event streams."""
        return self._total + len(self._health)

    @property
    def stream_count(self) -> int:
        """Open event streams."""
        return len(self._streams)

    def find_place(self, client: str) -> Place | None:
        """Return what a new connection of a client may do, or None if it must be closed.

        Where a limit is reached, the connection that has waited longest for a request is closed to make room: one of
        the same client at its own limit, else one of the client with the most connections.
        """
        limits = self.limits
        own = self._by_client.get(client, {})
        if len(own) >= limits.max_connections_per_client and not self._evict_one(own):
            self.note("too_many_connections_of_client", client=client, limit=limits.max_connections_per_client)
            return self._health_place()
        if self._total >= self._most() and not self._evict_somewhere():
            self.note("too_many_connections", open=self._total, limit=self._most(), streams=len(self._streams))
            return self._health_place()
        return Place.FULL

    def add(self, connection: Connection, client: str, place: Place) -> None:
        """Register a connection that got a place."""
        if place is Place.HEALTH_ONLY:
            self._health[connection] = None
            return
        self._by_client.setdefault(client, {})[connection] = None
        self._total += 1

    def remove(self, connection: Connection, client: str) -> None:
        """Forget a connection; one that is not known is ignored."""
        self._health.pop(connection, None)
        self._streams.pop(connection, None)
        own = self._by_client.get(client)
        if own is not None and connection in own:
            del own[connection]
            self._total -= 1
            if not own:
                del self._by_client[client]

    def begin_stream(self, connection: Connection, client: str) -> bool:
        """Count a connection as an event stream from now on; return False if there is no room for another."""
        most = min(self.limits.max_streams, self.capacity * 3 // 4)
        if len(self._streams) >= most or connection in self._health:
            self.note("too_many_streams", open=len(self._streams), limit=most)
            return False
        self.remove(connection, client)
        self._streams[connection] = None
        return True

    def evict_waiting(self, most: int) -> int:
        """Close up to `most` connections that wait for a request; return how many."""
        return sum(1 for _ in range(most) if self._evict_somewhere())

    def check_all(self, now_s: float) -> None:
        """Have each connection check its time limits."""
        for connection in list(self._all()):
            connection.check(now_s)
        self._log_repeated()

    def note(self, code: str, **detail: str | int) -> None:
        """Count a refusal, and log the first one of its kind at once."""
        self._count(code)
        now = self._clock()
        since, times = self._noted.get(code, (now, 0))
        if times == 0:
            _log.warning("http_refused", reason=code, **detail)
        self._noted[code] = (since, times + 1)

    def _log_repeated(self) -> None:
        now = self._clock()
        for code, (since, times) in list(self._noted.items()):
            if now - since < REPEAT_LOG_S:
                continue
            if times <= 1:
                # Nothing for a while: the next one is news.
                del self._noted[code]
            else:
                _log.warning("http_refused_again", reason=code, times=times - 1, within_s=round(now - since))
                self._noted[code] = (now, 1)

    def _most(self) -> int:
        return max(min(self.limits.max_connections, self.capacity - len(self._streams)), 1)

    def _health_place(self) -> Place | None:
        full = len(self._health) >= self.limits.health_connections
        return None if full and not self._evict_one(self._health) else Place.HEALTH_ONLY

    def _evict_somewhere(self) -> bool:
        largest = max(self._by_client.values(), key=len, default=None)
        if largest is None:
            return False
        return self._evict_one(largest) or any(self._evict_one(own) for own in list(self._by_client.values()))

    @staticmethod
    def _evict_one(connections: dict[Connection, None]) -> bool:
        """Close the oldest of these that waits for a request; it unregisters itself."""
        waiting = next((connection for connection in connections if connection.is_waiting), None)
        if waiting is None:
            return False
        waiting.evict()
        return True

    def _all(self) -> Iterator[Connection]:
        for own in self._by_client.values():
            yield from own
        yield from self._health
        yield from self._streams
