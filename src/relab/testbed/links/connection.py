"""Forward bytes between a client's socket and a server's socket, with the toxics of a link (a TCP proxy) applied.

Toxics are simulated network faults.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import socket
import struct
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Final, Literal, cast

from relab.testbed.links.flow import ByteQueue, Conditions, conditions_of
from relab.testbed.models import LinkStatistics, Refuse, Reset, Toxic

_LINGER_NOT: Final = struct.pack("ii", 1, 0)
"""With this value of SO_LINGER, close sends RST and discards unsent bytes (socket(7))."""

Way = Literal["up", "down"]
_WAYS: Final[tuple[Way, Way]] = ("up", "down")


class Half(asyncio.Protocol):
    """One of the two sockets of a connection through a link (a TCP proxy): the client's or the server's socket.

    The bytes that this socket receives are queued for the other socket.

    Args:
        pair: the connection through the link.
        way: the direction of the bytes that this socket receives: `up` from the client, `down` from the server.

    Attributes:
        transport: the socket; None before it is open.
        gone: whether the socket is closed.
    """

    def __init__(self, pair: Pair, way: Way) -> None:
        self._pair = pair
        self._way: Way = way
        self.transport: asyncio.Transport | None = None
        self.gone = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Store the transport of this socket, and notify the connection that this socket is open."""
        self.transport = cast("asyncio.Transport", transport)
        self._pair.made(self._way)

    def data_received(self, data: bytes) -> None:
        """Forward bytes that were read from this socket to the other socket of the connection."""
        self._pair.received(self._way, data)

    def eof_received(self) -> bool:
        """Forward the end of the stream to the other socket; return True, which keeps this socket open for writing."""
        self._pair.finished(self._way)
        return True

    def connection_lost(self, exc: Exception | None) -> None:
        """Mark this socket as closed, and let the connection close the other socket.

        Args:
            exc: the error that closed this socket; None for an orderly end.
        """
        self.gone = True
        self._pair.lost(self._way, exc)

    def pause_writing(self) -> None:
        """Pause reading from the other socket, because this socket's buffer is full."""
        self._pair.full(self._way, full=True)

    def resume_writing(self) -> None:
        """Resume reading from the other socket, because this socket accepts bytes again."""
        self._pair.full(self._way, full=False)

    def write(self, data: bytes) -> None:
        """Send bytes to this socket's peer."""
        if self.transport is not None and not self.gone:
            self.transport.write(data)

    def finish(self) -> None:
        """Send the end of the stream to this socket's peer; close the socket if both directions have ended."""
        if self.transport is None or self.gone:
            return
        if self._pair.both_finished():
            self.transport.close()
        elif self.transport.can_write_eof():
            with contextlib.suppress(OSError):
                self.transport.write_eof()

    def pause(self) -> None:
        """Stop reading from this socket for now."""
        if self.transport is not None and not self.gone:
            self.transport.pause_reading()

    def resume(self) -> None:
        """Resume reading from this socket."""
        if self.transport is not None and not self.gone:
            self.transport.resume_reading()

    def reset(self) -> None:
        """Close this socket with RST, so that its peer sees a reset connection."""
        if self.transport is None or self.gone:
            return
        descriptor = self.transport.get_extra_info("socket").fileno()
        if descriptor >= 0:
            # A duplicate of the descriptor shares the option; the loop's socket object may lack some of socket's
            # methods.
            with socket.socket(fileno=os.dup(descriptor)) as same:
                same.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _LINGER_NOT)
        self.transport.abort()


class Pair:
    """A connection through a link (a proxy in front of a server): the client's socket and the server's socket.

    In all methods, `way` is a direction of bytes: `up` from the client, `down` from the server.

    Args:
        number: the number of the connection on its link. This number and the seeds of the toxics determine all random
            choices.
        statistics: the counters of the link; the connection updates them.
        toxics: the toxics (simulated network faults) of the link when the connection opens, by id.
        closed: called once, when both sockets are closed.
        server_gone: called when the server ends the connection before the client does.
    """

    def __init__(
        self,
        number: int,
        statistics: LinkStatistics,
        toxics: Mapping[str, Toxic],
        *,
        closed: Callable[[Pair], None],
        server_gone: Callable[[], None],
    ) -> None:
        loop = asyncio.get_running_loop()
        self._loop = loop
        self._number = number
        self._statistics = statistics
        self._closed = closed
        self._server_gone = server_gone
        self.client = Half(self, "up")
        self.server = Half(self, "down")
        self._flows: dict[Way, ByteQueue] = {
            "up": ByteQueue(loop, sink=self.server, pause=self.client.pause, resume=self.client.resume),
            "down": ByteQueue(loop, sink=self.client, pause=self.server.pause, resume=self.server.resume),
        }
        self._ended: set[Way] = set()
        self._connected = False
        self._done = False
        self._over = False
        self._toxics = toxics
        self._bytes_left: dict[tuple[str, Way], int] = {}
        self._resets: dict[str, asyncio.TimerHandle] = {}
        self._random: dict[str, tuple[bool, random.Random]] = {}
        # Hold the client's bytes until the connection to the server is open.
        self._flows["up"].change(Conditions(held=True))

    def connected(self) -> None:
        """Handle the event that the server has accepted the connection.

        Forward the bytes that the client has sent so far. If the client's socket is already closed, reset the server's
        socket instead.
        """
        if self._done or self.client.gone:
            self.server.reset()
            return
        self._connected = True
        self.apply(self._toxics)

    def made(self, way: Way) -> None:
        """Handle the event that one of the two sockets of the connection is open.

        For the client's socket (`way` is `up`), count the connection and apply the link's toxics (simulated network
        faults). For the server's socket (`down`), do nothing.
        """
        if way == "up":
            self._statistics.accepted += 1
            self._statistics.open += 1
            self.apply(self._toxics)

    def received(self, way: Way, data: bytes) -> None:
        """Pass bytes from the client (`way` is `up`) or from the server (`down`) on to the other side.

        A toxic (a simulated network fault) can limit the total number of bytes in this direction (`after_bytes`). When
        the total reaches the limit, the connection is reset, and `data` is lost.
        """
        if way == "up":
            self._statistics.bytes_up += len(data)
        else:
            self._statistics.bytes_down += len(data)
        for key in self._bytes_left:
            if key[1] == way:
                self._bytes_left[key] -= len(data)
                if self._bytes_left[key] <= 0:
                    self.reset()
                    return
        self._flows[way].feed(data)

    def finished(self, way: Way) -> None:
        """Pass the end of a stream on: from the client to the server (`way` is `up`), or back (`way` is `down`)."""
        if way == "down" and "up" not in self._ended:
            self._server_gone()
        if way not in self._ended:
            self._ended.add(way)
            self._flows[way].feed(None)

    def lost(self, way: Way, error: Exception | None) -> None:
        """Handle the end of one socket: deliver the bytes queued for the other socket, then close the other socket.

        Exception: if an error ended the socket, no bytes are queued for the other socket and delivery to it is not
        suspended, the other socket is reset at once.

        Args:
            way: `up` if the client's socket has ended, `down` if the server's socket has ended.
            error: the error that ended the socket; None for an orderly end.
        """
        other = self.server if way == "up" else self.client
        if way == "down" and not self._done and "up" not in self._ended:
            self._server_gone()
        if other.gone or other.transport is None:
            self._end()
        elif error is not None and self._flows[way].waiting_bytes == 0 and not self._flows[way].held:
            other.reset()
        else:
            self._ended |= {"up", "down"}
            self._flows["down" if way == "up" else "up"].close()
            self._flows[way].feed(None)

    def full(self, way: Way, *, full: bool) -> None:
        """Pause or resume reading from one socket, because the send buffer of the other socket is full or has room again.

        Args:
            way: the socket whose send buffer has changed: `up` for the client's socket, `down` for the server's socket.
            full: True if the buffer is full, to pause reading; False if it has room again, to resume reading.
        """
        self._flows["down" if way == "up" else "up"].sink_is_full(full)

    def both_finished(self) -> bool:
        """Return whether the streams of both directions have ended."""
        return self._ended == {"up", "down"}

    def reset(self) -> None:
        """End both sockets with RST, unless the connection has already ended."""
        if self._done:
            return
        self._done = True
        self._statistics.reset += 1
        self.client.reset()
        self.server.reset()

    def apply(self, toxics: Mapping[str, Toxic]) -> None:
        """Replace the toxics (simulated network faults, by id) that act on this connection.

        A toxic with a share below 1 acts only on this share of the connections, chosen at random.
        """
        self._toxics = toxics
        chosen = {key: toxic for key, toxic in toxics.items() if self._is_chosen(key, toxic)}
        self._bytes_left = {key: left for key, left in self._bytes_left.items() if key[0] in chosen}
        for key in self._resets.keys() - chosen.keys():
            self._resets.pop(key).cancel()
        for way in _WAYS:
            acting = [(toxic, self._random[key][1]) for key, toxic in chosen.items() if _acts(toxic, way)]
            conditions = conditions_of(acting)
            if way == "up" and not self._connected:
                conditions = replace(conditions, held=True)
            self._flows[way].change(conditions)
        for key, toxic in chosen.items():
            if isinstance(toxic, Reset):
                self._plan_reset(key, toxic)

    def _plan_reset(self, key: str, toxic: Reset) -> None:
        if toxic.after_bytes is not None:
            for way in _WAYS:
                if _acts(toxic, way):
                    self._bytes_left.setdefault((key, way), toxic.after_bytes)
        if toxic.after_ms is not None:
            if key not in self._resets:
                self._resets[key] = self._loop.call_later(toxic.after_ms / 1_000, self.reset)
        elif toxic.after_bytes is None:
            self.reset()

    def _is_chosen(self, key: str, toxic: Toxic) -> bool:
        if isinstance(toxic, Refuse):
            return False
        if key not in self._random:
            rng = random.Random(f"{toxic.seed}:{self._number}")  # noqa: S311 repeatable, not secret
            self._random[key] = rng.random() < toxic.share, rng
        return self._random[key][0]

    def _end(self) -> None:
        if self._over:
            return
        self._done = self._over = True
        for timer in self._resets.values():
            timer.cancel()
        self._resets.clear()
        for flow in self._flows.values():
            flow.close()
        self._statistics.open -= 1
        self._closed(self)


def _acts(toxic: Toxic, way: Way) -> bool:
    return not isinstance(toxic, Refuse) and toxic.direction in {way, "both"}
