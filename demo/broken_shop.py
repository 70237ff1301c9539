"""A shop of the demo's own that really breaks: a testbed on free ports, its users, and the one fault.

Nothing here is ever told to the responder: it has no way to the chaos server, nor to what is asked behind the scenes.
"""

from __future__ import annotations

import random
import shutil
import socket
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Final

import httpx

from demo.lab_server import impatience_ignored, poll
from relab.core.errors import UnavailableError
from relab.testbed import service
from relab.testbed.episodes import BREAKER_HEADER
from relab.testbed.layout import Layout
from relab.testbed.scoring.beds import Bed, a_bed
from relab.testbed.scoring.observations import Second
from relab.testbed.scoring.presence import Presence
from relab.testbed.scoring.truth import CAUSES

FAULT: Final = "db_pool"
CAUSE: Final = CAUSES[FAULT]
"""What operators call it."""
RATE_PER_S: Final = 20.0
_BASES: Final = range(20_000, 32_000, 10)
"""Below what Linux gives to outgoing connections."""
_PORTS: Final = 3
_GUARD_WITHIN_S: Final = 1.0
_BREAKS_WITHIN_S: Final = 60.0
_RECENT_S: Final = 5


@contextmanager
def a_shop() -> Iterator[Bed]:
    """Yield a testbed that is ready; whatever happens, nothing of it is left afterwards.

    Raises:
        RelabError: it cannot be started.
    """
    # A short path of its own: sockets are in it.
    home = Path(tempfile.mkdtemp(prefix="relab-demo-"))
    was_left_in_order = False
    try:
        with a_bed(home, free_base()) as bed:
            yield bed
        was_left_in_order = True
    finally:
        with impatience_ignored():
            _end(home, within_s=0.0 if was_left_in_order else _GUARD_WITHIN_S)


def free_base() -> int:
    """Return a number from which on three ports are free right now.

    Raises:
        UnavailableError: there is none.
    """
    for base in random.sample(_BASES, len(_BASES)):
        if all(_is_free(base + step) for step in range(_PORTS)):
            return base
    raise UnavailableError(f"No {_PORTS} ports in a row are free between {_BASES.start} and {_BASES.stop}.")


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
            probe.listen(1)
        except OSError:
            return False
    return True


def _end(home: Path, *, within_s: float) -> None:
    """End what runs in a home, and remove it. A start that was broken off a moment ago may only be seen in a while."""
    for name in service.names(home):
        layout = Layout.of(home, name)
        if poll(partial(service.is_running, layout), within_s):
            service.down(home, name)
    shutil.rmtree(home, ignore_errors=True)


@contextmanager
def a_breaker(bed: Bed) -> Iterator[Breaker]:
    """Yield whoever breaks a shop."""
    secret = {BREAKER_HEADER: bed.breaker_secret}
    with (
        bed.ground() as ground,
        httpx.Client(base_url=bed.chaos, headers=secret, timeout=_BREAKS_WITHIN_S, trust_env=False) as chaos,
    ):
        yield Breaker(chaos, Presence(ground, FAULT, {}))


class Breaker:
    """Breaks a shop, and knows what is true of it.

    Args:
        chaos: a client of the chaos server.
        presence: tells behind the scenes whether the fault is there.
    """

    def __init__(self, chaos: httpx.Client, presence: Presence) -> None:
        self._chaos = chaos
        self._presence = presence
        self._injection_id = ""

    def bring_about(self) -> None:
        """Break the shop.

        Raises:
            httpx.HTTPError: the chaos server refuses, or does not answer.
        """
        answer = self._chaos.post(f"/api/v1/break/{FAULT}").raise_for_status().json()
        self._injection_id = str(answer["id"])
        self._presence.begun()

    def what_is_left(self) -> str | None:
        """Return why the shop is not mended, or None.

        The chaos server must still hold its fault for active: what it has ended itself nobody else has mended.

        Raises:
            httpx.HTTPError: the chaos server refuses, or does not answer.
        """
        phase = self._chaos.get(f"/api/v1/break/{self._injection_id}").raise_for_status().json()["phase"]
        if phase != "active":
            return f"the fault is {phase}, by nobody's repair"
        is_there = self._presence.is_there()
        if is_there is None:
            return "the shop does not tell whether the leak is gone"
        return "connections still leak" if is_there else None


def nothing() -> None:
    """Do nothing."""


class Crowd:
    """How the users of a shop were served, second by second; told by one thread and read by another."""

    def __init__(self) -> None:
        self._seconds: list[Second] = []
        self.on_second: Callable[[], None] = nothing

    def tell(self, second: Second) -> None:
        """Take in what came of a second's requests, and let `on_second` show it."""
        self._seconds.append(second)
        self.on_second()

    @property
    def badly_served_s(self) -> float:
        """Seconds for which a user was served badly: refused, left without an answer, or made to wait."""
        return sum((second.share() or 0.0) * (second.until_s - second.at_s) for second in list(self._seconds))

    def recent_pct(self, seconds: int = _RECENT_S) -> float | None:
        """Return how many of the last requests were served well, in percent; None if there were none."""
        shares = [share for second in self._seconds[-seconds:] if (share := second.share()) is not None]
        return 100.0 * (1.0 - sum(shares) / len(shares)) if shares else None
