"""A shop that really breaks: a private testbed on free ports, its users, and one fault.

The responder gets none of this information: it has no access to the server that injects the fault or to the checks for
it.
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
from relab.testbed.chaos.faults.connections import PoolLeakFault
from relab.testbed.chaos.presence import Presence
from relab.testbed.episodes import BREAKER_HEADER
from relab.testbed.layout import Layout
from relab.testbed.scoring.observations import ObservedSecond
from relab.testbed.scoring.testbeds import LeasedTestbed, lease_testbed

FAULT: Final = PoolLeakFault()
RATE_PER_S: Final = 20.0
_BASES: Final = range(20_000, 32_000, 10)
"""Base ports below the range that Linux uses for outgoing connections."""
_PORTS: Final = 3
_GUARD_TIMEOUT_S: Final = 1.0
_BREAK_TIMEOUT_S: Final = 60.0
_RECENT_S: Final = 5


@contextmanager
def a_shop() -> Iterator[LeasedTestbed]:
    """Yield a testbed that is ready, while the `with` block runs; stop and remove it afterwards, also after an error.

    Raises:
        RelabError: the testbed cannot be started.
    """
    # A separate folder with a short path, because it contains sockets.
    home = Path(tempfile.mkdtemp(prefix="relab-demo-"))
    was_left_in_order = False
    try:
        with lease_testbed(home, free_base()) as bed:
            yield bed
        was_left_in_order = True
    finally:
        with impatience_ignored():
            _end(home, within_s=0.0 if was_left_in_order else _GUARD_TIMEOUT_S)


def free_base() -> int:
    """Return the number of a port that is free, like the next two ports.

    Raises:
        UnavailableError: there are no three such ports.
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
    """Stop the testbeds in a home, and remove the home.

    Wait up to `within_s` seconds for a testbed whose start was just interrupted.
    """
    for name in service.names(home):
        layout = Layout.of(home, name)
        if poll(partial(service.is_running, layout), within_s):
            service.down(home, name)
    shutil.rmtree(home, ignore_errors=True)


@contextmanager
def a_breaker(bed: LeasedTestbed) -> Iterator[Breaker]:
    """Yield a `Breaker` for a testbed; its connections are closed after the `with` block."""
    secret = {BREAKER_HEADER: bed.breaker_secret}
    with (
        bed.ground() as ground,
        httpx.Client(base_url=bed.chaos, headers=secret, timeout=_BREAK_TIMEOUT_S, trust_env=False) as chaos,
    ):
        yield Breaker(chaos, FAULT.presence(ground, FAULT.read_parameters({})))


class Breaker:
    """Injects the fault into a shop, and checks whether it is still present.

    Args:
        chaos: a client of the server that injects faults.
        presence: checks for the fault, invisible to the responder.
    """

    def __init__(self, chaos: httpx.Client, presence: Presence) -> None:
        self._chaos = chaos
        self._presence = presence
        self._injection_id = ""

    def bring_about(self) -> None:
        """Inject the fault.

        Raises:
            httpx.HTTPError: the chaos server rejects the request, or does not answer.
        """
        answer = self._chaos.post(f"/api/v1/break/{FAULT.name}").raise_for_status().json()
        self._injection_id = str(answer["id"])
        self._presence.begun()

    def what_is_left(self) -> str | None:
        """Return why the shop does not count as repaired, as text; None if it is repaired.

        The chaos server must still report its fault as active: a fault that the chaos server ended was not repaired by
        the responder.

        Raises:
            httpx.HTTPError: the chaos server rejects the request, or does not answer.
        """
        phase = self._chaos.get(f"/api/v1/break/{self._injection_id}").raise_for_status().json()["phase"]
        if phase != "active":
            return f"the fault is {phase}, without a repair"
        is_there = self._presence.is_there()
        if is_there is None:
            return "the shop does not report whether the leak is gone"
        return "connections still leak" if is_there else None


def nothing() -> None:
    """Do nothing; the default function of `Crowd.on_second`."""


class Crowd:
    """Records how well the users of a shop were served in each second; one thread writes it, another reads it.

    `on_second` is called after each second.
    """

    def __init__(self) -> None:
        self._seconds: list[ObservedSecond] = []
        self.on_second: Callable[[], None] = nothing

    def show(self, second: ObservedSecond) -> None:
        """Add the outcomes of one second's requests, and call `on_second`."""
        self._seconds.append(second)
        self.on_second()

    @property
    def badly_served_s(self) -> float:
        """Total seconds of bad service, weighted by the share of requests that were rejected, unanswered or slow."""
        return sum((second.share() or 0.0) * (second.until_s - second.at_s) for second in list(self._seconds))

    def recent_pct(self, seconds: int = _RECENT_S) -> float | None:
        """Return the percentage of well-served requests in the last `seconds` seconds; None without requests."""
        shares = [share for second in self._seconds[-seconds:] if (share := second.share()) is not None]
        return 100.0 * (1.0 - sum(shares) / len(shares)) if shares else None
