"""Defects of a worker that can be switched on over a private socket: each is a real leak or data loss in the process.

Requests and answers are one JSON object per line. `{"op": "status"}` returns the active defects; `release` frees the
resources of a leak, or fills the search index again. Nothing is logged: operators see only the effects of a defect, as
in any other system.
"""

from __future__ import annotations

import asyncio
import json
import os
import socket
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Annotated, Any, Final, Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError
from sqlalchemy import PoolProxiedConnection

from relab.core.validation import plain_message
from relab.testbed.target.database import ShopDatabase
from relab.testbed.target.errors import DatabaseError
from relab.testbed.target.indexes import FaissIndex

_MIB: Final = 1 << 20
_GROWTH_PERIOD_S: Final = 0.1
_TAKE_PERIOD_S: Final = 0.05


class _Op(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)


class _LeakConnections(_Op):
    op: Literal["leak_connections"]
    count: int = Field(ge=1, le=1_000)


class _LeakMemory(_Op):
    op: Literal["leak_memory"]
    mb_per_s: float = Field(gt=0, le=10_000)
    limit_mb: int = Field(ge=1, le=100_000)


class _LeakDescriptors(_Op):
    op: Literal["leak_descriptors"]
    count: int = Field(ge=1, le=1_000_000)
    keep: bool = False
    """Whether to continue after the limit is reached, and to take descriptors that become free later."""


class _DropSearchIndex(_Op):
    op: Literal["drop_search_index"]


class _Release(_Op):
    op: Literal["release"]
    what: Literal["connections", "memory", "descriptors", "search_index"]


class _Status(_Op):
    op: Literal["status"]


_Any = Annotated[
    _LeakConnections | _LeakMemory | _LeakDescriptors | _DropSearchIndex | _Release | _Status, Field(discriminator="op")
]
_OP: TypeAdapter[_Any] = TypeAdapter(_Any)


def socket_path(private_dir: Path, worker: int) -> Path:
    """Return the path of the Unix socket for commands that switch this worker's defects on and off."""
    return private_dir / f"worker-{worker}.sock"


def _bind(path: Path) -> socket.socket:
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    path.unlink(missing_ok=True)
    bound = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        bound.bind(str(path))
        path.chmod(0o600)
    except OSError:
        bound.close()
        raise
    return bound


class Defects:
    """The active defects (resource leaks and data losses) of this worker, and the server that switches them on and off.

    Args:
        database: the connection pool for the defect that leaks connections.
        index: the search index for the defect that drops vectors.
    """

    def __init__(self, database: ShopDatabase, index: FaissIndex) -> None:
        self._database = database
        self._index = index
        self._connections: list[PoolProxiedConnection] = []
        self._memory: list[bytearray] = []
        self._sockets: list[socket.socket] = []
        self._growing: asyncio.Task[None] | None = None
        self._taking: asyncio.Task[None] | None = None
        # Its own thread, because a checkout blocks as long as the pool is exhausted.
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="pool")
        self._server: asyncio.Server | None = None

    async def listen(self, path: Path) -> None:
        """Listen on a Unix socket for the chaos server's commands, which switch defects on and off.

        Args:
            path: the path of the socket; an existing file is replaced.

        Raises:
            OSError: the socket cannot be created.
        """
        self._server = await asyncio.start_unix_server(self._serve, sock=_bind(path))

    async def close(self) -> None:
        """Stop the server for commands, and release the connections, memory and descriptors that the defects hold."""
        if self._server is not None:
            self._server.close()
        self._thread.shutdown(wait=False, cancel_futures=True)
        for what in ("connections", "memory", "descriptors"):
            self._release(what)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while line := await reader.readline():
                writer.write(json.dumps(await self._answer(line)).encode() + b"\n")
                await writer.drain()
        except (OSError, ValueError):
            # The client is gone, or its line is too long: send no answer.
            pass
        finally:
            writer.close()

    async def _answer(self, line: bytes) -> dict[str, Any]:
        try:
            op = _OP.validate_json(line)
        except ValidationError as refused:
            message = "; ".join(
                f"{'.'.join(map(str, item['loc']))}: {plain_message(item['msg'])}" for item in refused.errors()
            )
            return {"ok": False, "error": message}
        error: str | None = None
        if isinstance(op, _LeakConnections):
            error = await self._leak_connections(op.count)
        elif isinstance(op, _LeakMemory):
            self._stop(self._growing)
            self._growing = asyncio.create_task(self._grow(op.mb_per_s, op.limit_mb))
        elif isinstance(op, _LeakDescriptors):
            self._stop(self._taking)
            error = self._leak_descriptors(op.count)
            if op.keep:
                self._taking, error = asyncio.create_task(self._take(op.count)), None
        elif isinstance(op, _DropSearchIndex):
            self._index.drop()
        elif isinstance(op, _Release):
            self._release(op.what)
        return {"ok": error is None, **self._status(), **({"error": error} if error else {})}

    def _status(self) -> dict[str, Any]:
        return {
            "pid": os.getpid(),
            "connections": len(self._connections),
            "memory_mb": round(sum(map(len, self._memory)) / _MIB, 3),
            "memory_growing": self._growing is not None and not self._growing.done(),
            "descriptors": len(self._sockets),
            "search_index": self._index.figures()["state"],
        }

    async def _leak_connections(self, count: int) -> str | None:
        for _ in range(count):
            try:
                # Keep the proxy: if it were garbage-collected, the connection would return to the pool.
                taken = await asyncio.get_running_loop().run_in_executor(self._thread, self._database.check_out)
            except DatabaseError as error:
                return error.cause
            self._connections.append(taken)
        return None

    async def _grow(self, mb_per_s: float, limit_mb: int) -> None:
        size = max(int(mb_per_s * _MIB * _GROWTH_PERIOD_S), 1)
        while (left := limit_mb * _MIB - sum(map(len, self._memory))) > 0:
            # Memory pages become resident only when they are written to.
            self._memory.append(bytearray(b"\x5a") * min(size, left))
            await asyncio.sleep(_GROWTH_PERIOD_S)

    async def _take(self, count: int) -> None:
        while len(self._sockets) < count:
            await asyncio.sleep(_TAKE_PERIOD_S)
            self._leak_descriptors(count)

    def _leak_descriptors(self, count: int) -> str | None:
        try:
            while len(self._sockets) < count:
                self._sockets.append(socket.socket())
        except OSError as error:
            return f"{error.strerror} after {len(self._sockets)}"
        return None

    def _release(self, what: str) -> None:
        if what == "connections":
            for connection in self._connections:
                connection.close()
            self._connections.clear()
        elif what == "memory":
            self._stop(self._growing)
            self._memory.clear()
        elif what == "descriptors":
            self._stop(self._taking)
            for taken in self._sockets:
                taken.close()
            self._sockets.clear()
        else:
            self._index.rebuild()

    @staticmethod
    def _stop(task: asyncio.Task[None] | None) -> None:
        if task is not None:
            # The event loop may already be closed.
            with suppress(RuntimeError):
                task.cancel()
