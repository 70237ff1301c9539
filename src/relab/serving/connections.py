"""The registry of open connections.

It limits their number in total and per client, and reserves some for health checks.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from enum import Enum
from typing import Final, Protocol

from relab.core.logging import get_logger
from relab.serving.limits import HttpLimits

REPEAT_LOG_S = 10.0
"""A repeated rejection reason is logged again after this time, with a count, so that a client cannot fill the log."""

_log = get_logger("relab.serve")


class Connection(Protocol):
    """The methods of an open connection that the registry (`Connections`) calls."""

    @property
    def is_waiting(self) -> bool:
        """Whether the connection waits for the headers of a request, so that closing it loses no work."""
        ...

    def evict(self) -> None:
        """Close the connection at once."""
        ...

    def check(self, now_s: float) -> None:
        """Close the connection if one of its time limits has passed; `now_s` is the event loop's time, in seconds."""
        ...


class Admission(Enum):
    """Which requests a new connection may send: all, or health checks only."""

    FULL = "full"
    HEALTH_ONLY = "health_only"


class Connections:
    """Registers and limits the open connections of one server. All calls come from one event loop.

    Args:
        limits: the limits of the server.
        capacity: the number of file descriptors that connections and event streams may use together.
        count: a function that is called with the code of each rejection, such as `too_many_streams`, to count it in
            metrics.
        clock: returns the time in seconds, monotonic.
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
        """The number of open connections; event streams are not counted."""
        return self._total + len(self._health)

    @property
    def stream_count(self) -> int:
        """The number of open event streams."""
        return len(self._streams)

    def admit(self, client: str) -> Admission | None:
        """Return which requests a new connection of `client` may send; None if the connection must be rejected.

        If a limit is reached, a connection that waits for a request is closed to make room. If no connection waits, the
        new connection may send health checks only. If there are too many connections for health checks, too, and none
        of them waits, the new connection is rejected.

        Args:
            client: the address of the client.
        """
        limits = self.limits
        own = self._by_client.get(client, {})
        # The limit of this client first: it closes a connection of the same client.
        if len(own) >= limits.max_connections_per_client and not self._evict_one(own):
            self.note("too_many_connections_of_client", client=client, limit=limits.max_connections_per_client)
            return self._admit_health_check()
        # The total limit: it closes a connection of the client with the most connections, or else of another client.
        if self._total >= self._most() and not self._evict_somewhere():
            self.note("too_many_connections", open=self._total, limit=self._most(), streams=len(self._streams))
            return self._admit_health_check()
        return Admission.FULL

    def add(self, connection: Connection, client: str, admission: Admission) -> None:
        """Register an open connection.

        Args:
            connection: the connection.
            client: the address of its client.
            admission: which requests the connection may send, as `admit` decided.
        """
        if admission is Admission.HEALTH_ONLY:
            self._health[connection] = None
            return
        self._by_client.setdefault(client, {})[connection] = None
        self._total += 1

    def remove(self, connection: Connection, client: str) -> None:
        """Unregister a connection of `client`; an unknown connection is ignored."""
        self._health.pop(connection, None)
        self._streams.pop(connection, None)
        own = self._by_client.get(client)
        if own is not None and connection in own:
            del own[connection]
            self._total -= 1
            if not own:
                del self._by_client[client]

    def begin_stream(self, connection: Connection, client: str) -> bool:
        """Count a connection as an event stream until `end_stream` is called; return whether this is allowed.

        An event stream does not count against the limit of connections of its client. Return False and change nothing
        if there are too many event streams, or if the connection is for health checks only because there are too many
        connections. If the client has already closed the connection, return True and change nothing: the response then
        ends by itself.

        Args:
            connection: the connection.
            client: the address of the client.
        """
        if connection in self._health:
            self.note("too_many_connections", open=self._total, limit=self._most(), streams=len(self._streams))
            return False
        if connection not in self._by_client.get(client, {}):
            # The client left while the app prepared the stream; the response ends by itself.
            return True
        most = min(self.limits.max_streams, self.capacity * 3 // 4)
        if len(self._streams) >= most:
            self.note("too_many_streams", open=len(self._streams), limit=most)
            return False
        self.remove(connection, client)
        self._streams[connection] = None
        return True

    def end_stream(self, connection: Connection, client: str) -> None:
        """Count a connection of `client` as an ordinary connection again, after its event stream has ended.

        A connection that is not counted as an event stream does not change.
        """
        if connection in self._streams:
            del self._streams[connection]
            self.add(connection, client, Admission.FULL)

    def evict_waiting(self, most: int) -> int:
        """Close up to `most` connections that wait for a request; return the number of closed connections."""
        return sum(1 for _ in range(most) if self._evict_somewhere())

    def check_all(self, now_s: float) -> None:
        """Close each connection that has exceeded one of its time limits.

        Also log the number of repeated rejections with the same code, every 10 seconds for each code. `now_s` is the
        current time of the event loop, in seconds.
        """
        for connection in list(self._all()):
            connection.check(now_s)
        self._log_repeated()

    def note(self, code: str, **detail: str | int) -> None:
        """Count a rejection by its code. The first rejection of each code is logged at once, with `detail`.

        Repetitions of the same code are only counted; `check_all` logs their number every 10 seconds.
        """
        self._count(code)
        now = self._clock()
        since, times = self._noted.get(code, (now, 0))
        if times == 0:
            _log.warning("http_rejected", reason=code, **detail)
        self._noted[code] = (since, times + 1)

    def _log_repeated(self) -> None:
        now = self._clock()
        for code, (since, times) in list(self._noted.items()):
            if now - since < REPEAT_LOG_S:
                continue
            if times <= 1:
                # No repetition within this time: log the next rejection at once again.
                del self._noted[code]
            else:
                _log.warning("http_rejections_repeated", reason=code, times=times - 1, within_s=round(now - since))
                self._noted[code] = (now, 1)

    def _most(self) -> int:
        return max(min(self.limits.max_connections, self.capacity - len(self._streams)), 1)

    def _admit_health_check(self) -> Admission | None:
        full = len(self._health) >= self.limits.max_health_connections
        return None if full and not self._evict_one(self._health) else Admission.HEALTH_ONLY

    def _evict_somewhere(self) -> bool:
        largest = max(self._by_client.values(), key=len, default=None)
        if largest is None:
            return False
        return self._evict_one(largest) or any(self._evict_one(own) for own in list(self._by_client.values()))

    @staticmethod
    def _evict_one(connections: dict[Connection, None]) -> bool:
        """Close the oldest of those `connections` that wait for a request; return False if none of them waits.

        The closed connection unregisters itself.
        """
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
