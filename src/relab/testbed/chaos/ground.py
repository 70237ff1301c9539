"""Gives fault injection access to one testbed: the operators' access, the links, and the workers' sockets."""

from __future__ import annotations

import asyncio
import json
import socket
import threading
from collections.abc import Callable, Coroutine, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, TypeVar

import psycopg

from relab.core.errors import InvalidInputError
from relab.testbed.actions.plant import Plant, PlantError
from relab.testbed.errors import NotAnsweringError
from relab.testbed.links.client import LinksClient
from relab.testbed.models import Toxic

_WORKER_S: Final = 5.0
_CONNECT_S: Final = 3
_LINE_BYTES: Final = 65_536
Found = TypeVar("Found")


class Standing:
    """A snapshot of the process ids of some components. Its methods find the components that were not restarted since.

    Args:
        plant: operators' access to the testbed: its supervisor, database, cache and flags.
        name: the name of a component or of a group of components.
    """

    def __init__(self, plant: Plant, name: str) -> None:
        self._plant = plant
        self._name = name
        self._pids: dict[str, int | None] = {item["name"]: item["pid"] for item in plant.components(name)}

    def pids(self) -> dict[str, int]:
        """Return `{name: process id}` of the components whose process is the same as when this object was created."""
        now = {item["name"]: item["pid"] for item in self._plant.components(self._name)}
        return {name: pid for name, pid in self._pids.items() if pid is not None and now.get(name) == pid}

    def is_whole(self) -> bool:
        """Return whether every component of this snapshot still has the process that it had at the snapshot."""
        return len(self.pids()) == len(self._pids)

    def workers(self) -> list[int]:
        """Return the numbers of the target's workers that were not restarted since this object was created.

        The object must have been created for the group `target`.
        """
        return [worker_number(name) for name in self.pids()]

    def share(self, level: float) -> list[str]:
        """Return the names of the components that a fault of strength `level` must affect.

        These are the first components of the snapshot, but without those that were restarted since the snapshot.

        Args:
            level: the share of the components, 0 to 1, before the restarted ones are left out. The number is rounded,
                but it is at least one if `level` is above 0.
        """
        wanted = list(self._pids)[: max(round(len(self._pids) * level), 1)] if level > 0 else []
        left = self.pids()
        return [name for name in wanted if name in left]


@dataclass(frozen=True, slots=True)
class Ground:
    """Gives fault injection access to one testbed.

    Attributes:
        plant: operators' access to the testbed: its supervisor, database, cache and flags.
        links: the client of the links. A link is a TCP proxy on the network path to the database or the cache.
        private: the folder of the workers' sockets.
        target_url: the address of the target.
        changing: a lock. An injection holds it while it changes resource limits, and while it starts or stops the
            report job (a batch job beside the target).
    """

    plant: Plant
    links: LinksClient
    private: Path
    target_url: str
    changing: threading.RLock = field(default_factory=threading.RLock, repr=False, compare=False)

    def add_toxic(self, link: str, toxic: Toxic) -> str:
        """Add a toxic (a simulated network fault) to a link (a TCP proxy), such as `database-primary`; return its id.

        Raises:
            NotAnsweringError: the process of the links does not answer.
            InvalidInputError: the process of the links rejects the toxic, or no link has this name.
        """
        return _wait(self.links.add(link, toxic))

    def remove_toxic(self, link: str, toxic_id: str) -> None:
        """Remove a toxic (a simulated network fault) from the link (TCP proxy) with this name.

        Do nothing if the link no longer has the toxic, or if the process of the links does not answer.
        """
        with suppress(InvalidInputError, NotAnsweringError):
            _wait(self.links.remove(link, toxic_id))

    def connect(self, *, application: str) -> psycopg.Connection[tuple[Any, ...]]:
        """Return a new connection to the database as the shop's role, directly and not through the links (TCP proxies).

        Args:
            application: the application name of the session, as the database lists it.

        Raises:
            psycopg.Error: the connection fails.
        """
        known, target = self.plant.access()["database"], self.plant.settings()["database"]
        return psycopg.connect(
            host=known["host"],
            port=known["port"],
            user=target["user"],
            password=target["password"],
            dbname=known["name"],
            connect_timeout=_CONNECT_S,
            application_name=application,
        )

    def workers(self) -> list[int]:
        """Return the numbers of the target's workers (its server processes), such as `[1, 2]`."""
        return [worker_number(item["name"]) for item in self.plant.components("target")]

    def standing(self, name: str) -> Standing:
        """Return a snapshot of the processes of the component, or of the group of components, with this name."""
        return Standing(self.plant, name)

    def change_limits(self, name: str, changes: Mapping[str, Any]) -> dict[str, Any]:
        """Change some resource limits of a component; return all limits from before the change.

        Args:
            name: the name of the component.
            changes: `{field of ResourceLimits: new value}`; other fields are kept, and `rlimits` are merged by name.
        """
        # The supervisor replaces all limits at once, so two faults at the same time must not overwrite each other's.
        with self.changing:
            (before,) = (item["limits"] for item in self.plant.components(name))
            kept = {key: value for key, value in before.items() if value is not None}
            kept["rlimits"] = {**before["rlimits"], **changes.get("rlimits", {})}
            rest = {key: value for key, value in changes.items() if key != "rlimits"}
            self.plant.limit(name, {**kept, **rest})
        return dict(before)

    def any_worker(self, query: Callable[[Mapping[str, Any]], bool]) -> bool:
        """Return whether `query` returns True for at least one of the target's workers.

        Args:
            query: a function of a worker's answer to the command `status`. The answer has the worker's active defects.

        Raises:
            PlantError: a worker does not answer.
        """
        return any(query(self.order_worker(number, {"op": "status"})) for number in self.workers())

    def order_worker(self, number: int, order: Mapping[str, Any]) -> dict[str, Any]:
        """Send a command to a worker of the target over the worker's private socket, and return the answer.

        Args:
            number: the number of the worker.
            order: the command as JSON: its name as `op`, such as `{"op": "status"}`, and its arguments.

        Raises:
            PlantError: the worker does not answer, or rejects the command.
        """
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as door:
            door.settimeout(_WORKER_S)
            try:
                door.connect(str(self.private / f"worker-{number}.sock"))
                door.sendall(json.dumps(dict(order)).encode() + b"\n")
                with door.makefile("rb") as answers:
                    line = answers.readline(_LINE_BYTES)
            except OSError as error:
                raise PlantError(f"Worker {number} does not answer: {error}.") from error
        try:
            answer: dict[str, Any] = json.loads(line or b"{}")
        except ValueError as error:
            raise PlantError(f"Worker {number} ended in the middle of its answer.") from error
        if not answer.get("ok"):
            raise PlantError(f"Worker {number} refuses: {answer.get('error', 'no answer')}")
        return answer


def worker_number(component: str) -> int:
    """Return the number in a worker's component name: 2 for `worker-2`; 1 for a name without a number."""
    return int(component.rpartition("-")[2]) if "-" in component else 1


def _wait(work: Coroutine[Any, Any, Found]) -> Found:
    return asyncio.run(work)
