"""Lease testbeds to episodes (tests of a responder): each running episode holds one testbed, by a file lock."""

from __future__ import annotations

import fcntl
import json
import os
import secrets
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from relab.core.errors import UnavailableError
from relab.core.file_locks import file_lock
from relab.testbed import service
from relab.testbed.actions.plant import Plant
from relab.testbed.chaos.ground import Ground
from relab.testbed.layout import Layout
from relab.testbed.links.client import LinksClient
from relab.testbed.models import TestbedStatus

MAX_SLOTS: Final = 64
_LOCKS: Final = "scoring"
PORTS_PER_TESTBED: Final = 10
TIMEOUT_S: Final = 60.0
"""Time limit for the start of a testbed: long enough while other testbeds start at the same time."""


class NoTestbedError(UnavailableError):
    """No testbed can be used: all are in use, or the leased one lacks a server that the evaluation needs.

    These servers are the action server, which executes repairs, and the chaos server, which injects faults.
    """

    code = "no_testbed"


@dataclass(frozen=True, slots=True)
class LeasedTestbed:
    """A testbed in its initial state, held exclusively by one episode (a test of a responder).

    Attributes:
        layout: the paths of the testbed's files and sockets.
        status: the testbed's addresses and components after its start or reset.
    """

    layout: Layout
    status: TestbedStatus

    @property
    def target(self) -> str:
        """The address of the target, the service under test."""
        return self.status.state.addresses.target

    @property
    def actions(self) -> str:
        """The address of the action server, on which responders repair the testbed.

        Raises:
            NoTestbedError: the testbed was started without an action server.
        """
        return self._address(self.status.state.addresses.actions, "action")

    @property
    def chaos(self) -> str:
        """The address of the chaos server, on which faults are injected.

        Raises:
            NoTestbedError: the testbed was started without a chaos server.
        """
        return self._address(self.status.state.addresses.chaos, "chaos")

    @contextmanager
    def ground(self) -> Iterator[Ground]:
        """Return a context manager that gives a `Ground`: the access of fault injection to this testbed."""
        plant = Plant(self.layout.control_socket, self.target)
        try:
            yield Ground(plant, LinksClient(self.layout.links_socket), self.layout.private, self.target)
        finally:
            plant.close()

    @property
    def breaker_secret(self) -> str:
        """The secret that the chaos server requires; empty if every local program may use this server."""
        found = json.loads(self.layout.plan.read_bytes()).get("breaker_secret")
        return str(found or "")

    @property
    def flags_token(self) -> str:
        """The token that the target requires for changes of its flags; empty if every local program may change them."""
        found = json.loads(self.layout.plan.read_bytes())["target"].get("token")
        return str(found or "")

    def make_token(self, label: str, *scopes: str) -> str:
        """Create a token for this testbed's action server and return it; an older token with this label becomes invalid.

        Args:
            label: the name of the token, shown in the records of actions.
            scopes: the scopes of the token, such as `read` and `act`.

        Raises:
            WrongScopeError, WrongTokenNameError: a scope or the name is invalid.
        """
        return service.make_token(self.layout.home, self.layout.name, label, scopes, replace=True)

    def _address(self, found: str | None, part: str) -> str:
        if found is None:
            raise NoTestbedError(
                f"The testbed {self.layout.name} has no {part} server.",
                remedy=f"lab testbed down --name {self.layout.name}",
            )
        return found


def slot_name(slot: int) -> str:
    """Return the name of the testbed with this number, for example `shop-0`."""
    return f"shop-{slot}"


@contextmanager
def lease_testbed(home: Path, port_base: int) -> Iterator[LeasedTestbed]:
    """Acquire the first free testbed and yield it in its initial state; release it when the block ends.

    A running testbed is reset, and continues to run afterwards. Any other testbed is started, and stopped afterwards.

    Args:
        home: relab's home folder, with a short path.
        port_base: the first port of the first testbed; each testbed has ten ports.

    Raises:
        NoTestbedError: all testbeds are in use.
        SupervisorBusyError, StartError, NotAnsweringError, WrongNameError: the testbed cannot be started or reset.
    """
    with ExitStack() as held:
        slot = _take_slot(home, held)
        name = slot_name(slot)
        layout = Layout.of(home, name)
        if service.is_running(layout):
            yield LeasedTestbed(layout, service.reset(home, name))
            return
        status = _up(home, slot, port_base)
        try:
            yield LeasedTestbed(layout, status)
        finally:
            service.down(home, name)


@contextmanager
def hold_machine(home: Path, *, alone: bool) -> Iterator[None]:
    """Wait for a lock that all trials with the same home folder use, and hold it while the block runs.

    Each trial holds the lock during its episode (a test of a responder). With an exclusive lock, an episode that loads
    the whole machine runs alone.

    Args:
        home: relab's home folder, which contains the lock.
        alone: True for an exclusive lock, so that no other trial runs; False for a shared lock.
    """
    folder = home / _LOCKS
    folder.mkdir(parents=True, exist_ok=True)
    with file_lock(folder / "machine.lock", shared=not alone):
        yield


@contextmanager
def keep_testbeds_running(home: Path, count: int, port_base: int) -> Iterator[None]:
    """Keep the first `count` testbeds running while the block runs; then stop those that this call has started.

    Args:
        home: relab's home folder, with a short path.
        count: number of testbeds.
        port_base: the first port of the first testbed; each testbed has ten ports.

    Raises:
        SupervisorBusyError, StartError, WrongNameError: a testbed cannot be started.
    """
    with ExitStack() as started:
        for slot in range(count):
            if not service.is_running(Layout.of(home, slot_name(slot))):
                _up(home, slot, port_base)
                started.callback(service.down, home, slot_name(slot))
        yield


def _up(home: Path, slot: int, port_base: int) -> TestbedStatus:
    base = port_base + slot * PORTS_PER_TESTBED
    # A responder can find the ports by counting, so secrets keep it from injecting faults and from changing flags.
    return service.up(
        home,
        slot_name(slot),
        port_base=base,
        start_within_s=TIMEOUT_S,
        breaker_secret=secrets.token_hex(32),
        target={"token": secrets.token_hex(32)},
    )


def _take_slot(home: Path, held: ExitStack) -> int:
    folder = home / _LOCKS
    folder.mkdir(parents=True, exist_ok=True)
    for slot in range(MAX_SLOTS):
        descriptor = os.open(folder / f"slot-{slot}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(descriptor)
            continue
        held.callback(os.close, descriptor)
        return slot
    raise NoTestbedError(f"All {MAX_SLOTS} testbeds of {home} are in use.", remedy="Run fewer episodes at a time.")
