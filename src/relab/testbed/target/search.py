"""Search for products: batch waiting searches, choose an index by the flags, and use Qdrant if FAISS fails."""

from __future__ import annotations

import asyncio
import json
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from relab.flags.models import Backend, ServiceFlags
from relab.testbed.target.errors import SearchError
from relab.testbed.target.indexes import EmbeddedQdrant, FaissIndex, Hit, Index, QdrantServer
from relab.testbed.target.recorder import WorkerRecorder
from relab.testbed.target.settings import BadSettingsError, SearchSettings
from relab.testbed.target.vectors import embed

Failed = Callable[[str, str], None]
"""A function that is called with the name of an index and its error message."""

COLLECTION = "products"


@dataclass(slots=True)
class _Wanted:
    text: str
    top_k: int
    answer: asyncio.Future[tuple[Backend, list[Hit]]]


class Products:
    """The names and the searchable texts of the products, read from the products file.

    Attributes:
        names: the products' names, by id.
        texts: name and description of each product, by id.

    Raises:
        BadSettingsError: the file cannot be read, is invalid, or has no products.
    """

    def __init__(self, path: Path) -> None:
        try:
            with path.open(encoding="utf-8") as lines:
                rows = [json.loads(line) for line in lines]
            self.names: dict[int, str] = {row["id"]: row["name"] for row in rows}
            self.texts: dict[int, str] = {row["id"]: f"{row['name']} {row['description']}" for row in rows}
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise BadSettingsError(f"The products {path} cannot be read: {type(error).__name__}: {error}.") from error
        if not self.names:
            raise BadSettingsError(f"The file {path} has no products.")


class Indexes:
    """Both search indexes of one worker. If Qdrant cannot start, it is unavailable until the worker restarts.

    Args:
        products: the products to index.
        settings: the folder of the embedded Qdrant engine, or the address of a Qdrant server.
        worker: the worker's number; each worker has its own embedded engine.
    """

    def __init__(self, products: Products, settings: SearchSettings, *, worker: int) -> None:
        ids = list(products.texts)
        vectors = embed(products.texts.values())
        self.faiss = FaissIndex(ids, vectors)
        self.qdrant: Index | None = None
        self.qdrant_error: str | None = None
        try:
            self.qdrant = (
                QdrantServer(ids, vectors, url=settings.qdrant_url, collection=COLLECTION)
                if settings.qdrant_url
                else EmbeddedQdrant(ids, vectors, settings.qdrant_dir / f"worker-{worker}")
            )
        except SearchError as error:
            self.qdrant_error = error.cause

    def find(self, backend: Backend) -> Index:
        """Return the index with this name, `faiss` or `qdrant`.

        Raises:
            SearchError: `backend` is `qdrant`, and Qdrant failed to start.
        """
        if backend == "faiss":
            return self.faiss
        if self.qdrant is None:
            raise SearchError(self.qdrant_error or "qdrant did not start")
        return self.qdrant

    def figures(self) -> dict[str, Any]:
        """Return the kind, the number of vectors and the state of each index, as `{"faiss": ..., "qdrant": ...}`.

        If Qdrant failed to start, `qdrant` has no number of vectors, and its state is the error message.
        """
        qdrant = self.qdrant.figures() if self.qdrant else {"kind": "qdrant", "state": self.qdrant_error}
        return {"faiss": self.faiss.figures(), "qdrant": qdrant}

    def close(self) -> None:
        """Close both indexes."""
        self.faiss.close()
        if self.qdrant is not None:
            self.qdrant.close()


class Search:
    """Answers searches in batches: searches that arrive while a batch is processed wait for a later batch.

    Args:
        indexes: the indexes to search in.
        recorder: counts answers by index, fallbacks and batches.
        flags: returns the current flags, which determine the index and the maximum size of a batch.
        failed: called when an index fails, with the name of the index and the error message.
    """

    def __init__(
        self, indexes: Indexes, recorder: WorkerRecorder, *, flags: Callable[[], ServiceFlags], failed: Failed
    ) -> None:
        self._indexes = indexes
        self._recorder = recorder
        self._flags = flags
        self._failed = failed
        self._waiting: deque[_Wanted] = deque()
        self._running: asyncio.Task[None] | None = None
        # One thread, because an index takes one batch at a time; searches that arrive meanwhile are batched.
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="search")

    async def find(self, text: str, top_k: int) -> tuple[Backend, list[Hit]]:
        """Return `(index, hits)` for a text: the name of the index that answered, and the products found.

        The flags select the index. If `faiss` is selected and fails, `qdrant` answers instead. If `qdrant` is selected
        and fails, the search fails. `hits` is `[(product's id, similarity)]` of the `top_k` nearest products, nearest
        first.

        Raises:
            SearchError: `qdrant` is selected and fails, or `faiss` is selected and both indexes fail.
        """
        answer: asyncio.Future[tuple[Backend, list[Hit]]] = asyncio.get_running_loop().create_future()
        self._waiting.append(_Wanted(text, top_k, answer))
        if self._running is None or self._running.done():
            self._running = asyncio.create_task(self._drain())
        return await answer

    async def figures(self) -> dict[str, Any]:
        """Return the kind, the number of vectors and the state of each index, as `{"faiss": ..., "qdrant": ...}`."""
        # No other thread may access the indexes.
        return await asyncio.get_running_loop().run_in_executor(self._thread, self._indexes.figures)

    def close(self) -> None:
        """Stop the search thread and close the indexes."""
        self._thread.shutdown()
        self._indexes.close()

    async def _drain(self) -> None:
        loop = asyncio.get_running_loop()
        while self._waiting:
            control = self._flags().control
            size = control.max_batch_size if "batch_size" in control.enabled_actuators else 1
            batch = [self._waiting.popleft() for _ in range(min(size, len(self._waiting)))]
            try:
                await loop.run_in_executor(self._thread, self._answer, batch, loop)
            except Exception as error:  # noqa: BLE001 the waiting requests raise it
                # Every waiting search must get the error, whatever it is; the application answers with 500.
                for wanted in batch:
                    _settle(wanted.answer, error)

    def _answer(self, batch: list[_Wanted], loop: asyncio.AbstractEventLoop) -> None:
        routing = self._flags().routing
        groups: dict[Backend, list[_Wanted]] = {}
        for wanted in batch:
            groups.setdefault(routing.backend(wanted.top_k), []).append(wanted)
        self._recorder.event("search_batches")
        for backend, group in groups.items():
            try:
                used, found = self._ask(backend, group)
            except SearchError as error:
                for wanted in group:
                    loop.call_soon_threadsafe(_settle, wanted.answer, error)
                continue
            for wanted, hits in zip(group, found, strict=True):
                loop.call_soon_threadsafe(_settle, wanted.answer, (used, hits))

    def _ask(self, backend: Backend, group: list[_Wanted]) -> tuple[Backend, list[list[Hit]]]:
        queries, limits = embed(wanted.text for wanted in group), [wanted.top_k for wanted in group]
        try:
            found = self._indexes.find(backend).search(queries, limits)
        except SearchError as error:
            self._failed(backend, error.cause)
            if backend == "qdrant":
                raise
            found = self._indexes.find("qdrant").search(queries, limits)
            backend = "qdrant"
            self._recorder.event("search_fallbacks", len(group))
        self._recorder.event(f"search_{backend}", len(group))
        return backend, found


def _settle(answer: asyncio.Future[tuple[Backend, list[Hit]]], found: tuple[Backend, list[Hit]] | Exception) -> None:
    if answer.done():
        return
    if isinstance(found, Exception):
        answer.set_exception(found)
    else:
        answer.set_result(found)
