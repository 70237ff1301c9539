"""Send requests to the process of the links (TCP proxies), over its Unix socket, and return the answers."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any, Final

from relab.core.errors import InvalidInputError
from relab.testbed.errors import NotAnsweringError
from relab.testbed.models import LinkStatus, Toxic

_TIMEOUT_S: Final = 5.0
_ANSWER_BYTES: Final = 1 << 20


class LinksClient:
    """A client of the process with a testbed's links (TCP proxies that simulate network faults).

    Every method opens a new connection. Every method raises `NotAnsweringError` if the process does not answer within
    five seconds, and `InvalidInputError` if the process rejects the request.

    Args:
        path: the path of the process's Unix socket.
    """

    def __init__(self, path: Path) -> None:
        self._path = path

    async def links(self) -> list[LinkStatus]:
        """Return the status of all links, the TCP proxies in front of the dependencies."""
        return [LinkStatus.model_validate(item) for item in (await self._ask({"op": "list"}))["links"]]

    async def add(self, link: str, toxic: Toxic) -> str:
        """Add a toxic (a simulated network fault) to the link (TCP proxy) with this name; return the toxic's id."""
        answer = await self._ask({"op": "add", "link": link, "toxic": toxic.model_dump(mode="json")})
        return str(answer["toxic_id"])

    async def remove(self, link: str, toxic_id: str) -> None:
        """Remove the toxic (a simulated network fault) with this id from the link (TCP proxy) with this name."""
        await self._ask({"op": "remove", "link": link, "toxic_id": toxic_id})

    async def _ask(self, request: dict[str, Any]) -> dict[str, Any]:
        try:
            async with asyncio.timeout(_TIMEOUT_S):
                reader, writer = await asyncio.open_unix_connection(self._path, limit=_ANSWER_BYTES)
                try:
                    writer.write(json.dumps(request).encode() + b"\n")
                    line = await reader.readline()
                finally:
                    writer.close()
        except OSError as error:  # a time-out is an OSError, too
            raise NotAnsweringError(f"The links do not answer on {self._path}: {str(error) or 'time-out'}.") from error
        if not line:
            raise NotAnsweringError(f"The links ended the connection on {self._path} without an answer.")
        try:
            answer: dict[str, Any] = json.loads(line)
        except ValueError as error:
            raise NotAnsweringError(f"The links ended the connection on {self._path} within the answer.") from error
        if not answer.pop("ok"):
            raise InvalidInputError(answer["error"])
        return answer
