"""What causes are made of: doors that operators do not use, into the database, the cache, the links and the workers."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import Coroutine, Mapping
from contextlib import suppress
from dataclasses import dataclass
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


@dataclass(frozen=True, slots=True)
class Ground:
    """One testbed, for those who break it.

    Attributes:
        plant: what operators have; causes need much of the same.
        links: the network paths.
        private: the folder of the workers' sockets.
        target_url: of the target.
    """

    plant: Plant
    links: LinksClient
    private: Path
    target_url: str

    def add_toxic(self, link: str, toxic: Toxic) -> str:
        """Let a toxic act on a link; return its id."""
        return _wait(self.links.add(link, toxic))

    def remove_toxic(self, link: str, toxic_id: str) -> None:
        """Take a toxic away; nothing happens if a restart of the links has done so."""
        with suppress(InvalidInputError, NotAnsweringError):
            _wait(self.links.remove(link, toxic_id))

    def connect(self, *, application: str) -> psycopg.Connection[tuple[Any, ...]]:
        """Return a connection to the database as the shop's role, past the links.

        Raises:
            psycopg.Error: the server refuses.
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
        """Return the numbers of the target's workers."""
        names = [item["name"] for item in self.plant.components("target")]
        return [int(name.rpartition("-")[2]) if "-" in name else 0 for name in names]

    def tell_worker(self, number: int, order: Mapping[str, Any]) -> dict[str, Any]:
        """Send an order to a worker and return its answer.

        Raises:
            PlantError: it does not answer, or refuses.
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
        answer: dict[str, Any] = json.loads(line or b"{}")
        if not answer.get("ok"):
            raise PlantError(f"Worker {number} refuses: {answer.get('error', 'no answer')}")
        return answer


def _wait(work: Coroutine[Any, Any, Found]) -> Found:
    return asyncio.run(work)
