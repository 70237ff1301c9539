"""Run all links (TCP proxies) of a testbed in one process, and serve the Unix socket that controls them.

Requests on this socket list the links, and add or remove toxics (simulated network faults).

Requests and answers on the socket are JSON objects, one per line. The requests are:

- `{"op": "list"}`
- `{"op": "add", "link": NAME, "toxic": {…}}`
- `{"op": "remove", "link": NAME, "toxic_id": ID}`

The answer has the field `ok`, and `error` with a message if `ok` is false.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
from pathlib import Path
from typing import Any, Literal

from pydantic import TypeAdapter, ValidationError

from relab.core.json import canonical_json
from relab.core.validation import plain_message
from relab.testbed.links.link import Link
from relab.testbed.models import LinksConfig, Strict, Toxic

_LINE_BYTES = 65_536


class ListLinks(Strict):
    """A request for the status of all links (TCP proxies)."""

    op: Literal["list"]


class AddToxic(Strict):
    """A request to add a toxic (a simulated network fault) to the link (TCP proxy) with this name."""

    op: Literal["add"]
    link: str
    toxic: Toxic


class RemoveToxic(Strict):
    """A request to remove the toxic (a simulated network fault) with this id from the link (TCP proxy) of this name."""

    op: Literal["remove"]
    link: str
    toxic_id: str


Request = ListLinks | AddToxic | RemoveToxic
_REQUEST: TypeAdapter[Request] = TypeAdapter(Request)


class _RefusedError(Exception):
    """The request names a link (TCP proxy) or a toxic (simulated network fault) that does not exist."""


class LinksServer:
    """All links (TCP proxies) of a testbed, and the control socket for requests about them.

    Such a request is, for example, to add or remove a toxic (a simulated network fault) of a link.

    Args:
        config: the links, and the path of the control socket.
    """

    def __init__(self, config: LinksConfig) -> None:
        self._socket = Path(config.socket)
        self._links = {ends.name: Link(ends) for ends in config.links}
        self._control: asyncio.Server | None = None
        self._clients: set[asyncio.StreamWriter] = set()

    async def open(self) -> None:
        """Listen on the port of every link (a TCP proxy) and on the control socket.

        Raises:
            OSError: a port or the path is not available.
        """
        for link in self._links.values():
            await link.open()
        self._socket.unlink(missing_ok=True)
        before = os.umask(0o177)
        try:
            self._control = await asyncio.start_unix_server(self._serve, self._socket, limit=_LINE_BYTES)
        finally:
            os.umask(before)

    async def close(self) -> None:
        """Close all links (TCP proxies) with their connections, and close and delete the control socket."""
        if self._control is not None:
            self._control.close()
        for writer in list(self._clients):
            writer.close()
        for link in self._links.values():
            await link.close()
        self._socket.unlink(missing_ok=True)

    async def answer(self, line: bytes) -> dict[str, Any]:
        """Execute a request, one line of JSON, and return the answer, an object to be sent as JSON.

        The answer has `ok: True` and the fields of the result. If the request is invalid, or names an unknown link (TCP
        proxy) or toxic (simulated network fault), the answer has `ok: False` and `error`, a message for people.
        The docstring of the module lists the requests.
        """
        try:
            return {"ok": True, **await self._do(_REQUEST.validate_json(line))}
        except ValidationError as error:
            first = error.errors(include_url=False, include_context=False)
            problems = [f"{'.'.join(map(str, item['loc'][1:]))}: {plain_message(item['msg'])}" for item in first]
            return {"ok": False, "error": f"The request cannot be read: {'; '.join(problems[:5])}."}
        except _RefusedError as error:
            return {"ok": False, "error": str(error)}

    async def _do(self, request: Request) -> dict[str, Any]:
        if isinstance(request, ListLinks):
            return {"links": [link.status().model_dump(mode="json") for link in self._links.values()]}
        if isinstance(request, AddToxic):
            return {"toxic_id": await self._link(request.link).add(request.toxic)}
        if not await self._link(request.link).remove(request.toxic_id):
            raise _RefusedError(f"The link {request.link} has no toxic {request.toxic_id[:100]!r}.")
        return {}

    def _link(self, name: str) -> Link:
        try:
            return self._links[name]
        except KeyError:
            raise _RefusedError(f"There is no link {name[:100]!r}; there are {', '.join(self._links)}.") from None

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._clients.add(writer)
        try:
            while line := await reader.readline():
                writer.write(canonical_json(await self.answer(line)).encode() + b"\n")
                await writer.drain()
        except (OSError, ValueError):
            # The client is gone, or its line is too long: send no answer.
            pass
        finally:
            self._clients.discard(writer)
            writer.close()


async def serve(config: LinksConfig) -> None:
    """Run the links (TCP proxies) with this configuration until SIGTERM or SIGINT.

    Raises:
        OSError: a port or the path of the socket is not available.
    """
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    server = LinksServer(config)
    try:
        await server.open()
        await stop.wait()
    finally:
        with contextlib.suppress(OSError):
            await server.close()


def main(config_path: str) -> None:
    """Read the configuration file, and run the links (TCP proxies) until a signal; exit with 1 if they cannot start."""
    import uvloop  # noqa: PLC0415 not needed where only the classes are used

    config = LinksConfig.model_validate_json(Path(config_path).read_bytes())
    try:
        uvloop.run(serve(config))
    except OSError as error:
        print(f"links: {error}", file=sys.stderr)  # noqa: T201 the process's log
        sys.exit(1)
