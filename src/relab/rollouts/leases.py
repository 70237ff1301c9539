"""The lease of a target: the right of one process at a time to change the target's flags in a rollout.

A lease has two parts. A lock on a file excludes other processes on this machine; the kernel releases the lock when the
process that holds it dies. A row in the database excludes processes on other machines; the row expires unless the
process extends it.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from relab.core.clock import Clock
from relab.core.ids import new_id
from relab.core.logging import get_logger
from relab.rollouts import repository
from relab.rollouts.errors import ReportFolderError, TargetBusyError
from relab.storage import Database
from relab.storage.errors import DatabaseUnavailableError

LEASE_S: Final = 30.0

_log = get_logger(__name__)


class TargetLease:
    """A lease that this process holds on a target. A thread extends the lease regularly.

    Attributes:
        target_key: the key of the target in the table of leases: the SHA-256 of the target's name.
        owner: the unique name of this holder.
    """

    def __init__(self, database: Database, clock: Clock, target_key: str, owner: str) -> None:
        self._database = database
        self._clock = clock
        self.owner = owner
        self.target_key = target_key
        self._is_lost = False
        self._ending = threading.Event()
        self._extended_s = time.monotonic()
        self._thread = threading.Thread(target=self._extend, name="rollout-lease", daemon=True)

    @property
    def is_held(self) -> bool:
        """Whether this process still holds the lease: it was extended in time, and no other process has acquired it."""
        return not self._is_lost and time.monotonic() - self._extended_s < LEASE_S

    def start(self) -> None:
        """Start the thread that extends the lease."""
        self._thread.start()

    def release(self) -> None:
        """Stop the thread that extends the lease, and delete the lease.

        If the database is unavailable, the lease is not deleted and expires by itself.
        """
        self._ending.set()
        self._thread.join()
        try:
            with self._database.write(durable=False) as unit:
                repository.release_lease(unit.session, self.target_key, self.owner)
        except DatabaseUnavailableError as error:
            _log.warning("rollout_lease_not_released", error=str(error))

    def _extend(self) -> None:
        while not self._ending.wait(LEASE_S / 6):
            asked_s = time.monotonic()
            until = self._clock.now_us() + int(LEASE_S * 1e6)
            try:
                with self._database.write(durable=False) as unit:
                    held = repository.extend_lease(unit.session, self.target_key, self.owner, until)
            except DatabaseUnavailableError as error:
                _log.warning("rollout_lease_not_extended", error=str(error))
                continue
            if not held:
                self._is_lost = True
                return
            self._extended_s = asked_s


class TargetLeases:
    """Acquires leases of targets; a lease is the right of one process to change the flags of a target.

    Args:
        database: has the table of leases.
        clock: the clock for the expiry of leases.
        folder: the folder of the lock files, shared by all processes of this installation on this machine. A process
            locks a file while it holds a lease. The kernel releases the lock when the process dies, so the lease is
            then free at once.
    """

    def __init__(self, database: Database, clock: Clock, folder: Path) -> None:
        self._database = database
        self._clock = clock
        self._folder = folder

    @contextmanager
    def hold(self, target: str, rollout_id: str) -> Iterator[TargetLease]:
        """Return a context manager that holds the lease of a target while its block runs.

        Args:
            target: the name that identifies the flags of the target, such as their normalized URL.
            rollout_id: the id of the rollout that uses the target.

        Raises:
            TargetBusyError: another rollout holds the lease; the message names that rollout, if it is known.
            ReportFolderError: the folder of the lock files cannot be written.
        """
        key = hashlib.sha256(target.encode()).hexdigest()
        path = self._folder / f"{key[:16]}.lock"
        descriptor = self._open(path)
        try:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise self._busy(target, key) from None
            # The lock proves that no other process with this lock file is alive, so its lease in the database is void.
            local = f"{socket.gethostname()}:{path}:"
            lease = TargetLease(self._database, self._clock, key, f"{local}{os.getpid()}:{new_id()}")
            self._take(target, key, rollout_id, lease, local)
            lease.start()
            try:
                yield lease
            finally:
                lease.release()
        finally:
            os.close(descriptor)

    def _take(self, target: str, key: str, rollout_id: str, lease: TargetLease, local: str) -> None:
        now = self._clock.now_us()
        lease_us = int(LEASE_S * 1e6)
        values = {"target_key": key, "owner": lease.owner, "rollout_id": rollout_id, "until": now + lease_us}
        with self._database.write(durable=False) as unit:
            taken = repository.take_lease(unit.session, values, is_dead=local, now=now, latest=now + 2 * lease_us)
        if not taken:
            raise self._busy(target, key)

    def _busy(self, target: str, key: str) -> TargetBusyError:
        with self._database.read() as session:
            holder = repository.lease_holder(session, key)
        by, stop = (
            ("another rollout", "stop it")
            if holder is None
            else (f"the rollout {holder}", f"lab rollout stop {holder}")
        )
        return TargetBusyError(f"The flags of {target} are in use by {by}.", remedy=f"Wait until it ends, or {stop}.")

    def _open(self, path: Path) -> int:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            return os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise ReportFolderError(f"{path} cannot be opened: {error.strerror}.") from error
