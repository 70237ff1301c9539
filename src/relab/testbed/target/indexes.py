"""Search products by vector, in one of two engines: FAISS in memory; or Qdrant, in this process or as a server.

Each call searches for a batch of queries.
"""

from __future__ import annotations

import shutil
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final, Protocol

import faiss
import qdrant_edge as edge

from relab.flags.models import Backend
from relab.testbed.target.errors import SearchError
from relab.testbed.target.vectors import DIMENSIONS, Vectors

Hit = tuple[int, float]
"""A product's id and its similarity, at most 1."""

_TIMEOUT_S: Final = 2.0
_UPLOAD_POINTS: Final = 1_000


class Index(Protocol):
    """A search index. Its methods block, and must be called by one thread at a time."""

    def search(self, queries: Vectors, limits: Sequence[int]) -> list[list[Hit]]:
        """Return, for each query, the nearest products as `[(product's id, similarity)]`, nearest first.

        Args:
            queries: the vectors of the queries, one per row.
            limits: the maximum number of products for each query.

        Raises:
            SearchError: the index cannot answer.
        """
        ...

    def figures(self) -> dict[str, Any]:
        """Return the state of the index as JSON: `kind`, `vectors`, `expected` and `state`.

        `kind` is the engine, such as `qdrant server`. `vectors` is the number of stored vectors. `expected` is the
        number of products, because each has one vector. `state` is `ready` if these two numbers are equal, and
        otherwise `incomplete`. If the index cannot answer, `state` is the error message.
        """
        ...

    def close(self) -> None:
        """Release the resources of the index; the index cannot be used afterwards."""
        ...


def _figures(kind: str, held: int, expected: int) -> dict[str, Any]:
    state = "ready" if held == expected else "incomplete"
    return {"kind": kind, "vectors": held, "expected": expected, "state": state}


class FaissIndex:
    """An index that holds all vectors in memory. A search compares the query with every vector, so it is exact.

    Args:
        ids: the products' ids.
        vectors: the products' vectors, one per row in the order of `ids`.
    """

    name: Backend = "faiss"

    def __init__(self, ids: Sequence[int], vectors: Vectors) -> None:
        # The workers are several processes already; the library's threads would only compete for their cores.
        faiss.omp_set_num_threads(1)
        self._ids = list(ids)
        self._vectors = vectors
        self._index: Any = faiss.IndexFlatIP(DIMENSIONS)
        # The library frees its memory even while another thread reads it.
        self._lock = threading.Lock()
        self.rebuild()

    def rebuild(self) -> None:
        """Empty the index and fill it with all vectors again."""
        with self._lock:
            self._index.reset()
            self._index.add(self._vectors)

    def drop(self) -> None:
        """Empty the index; every search fails until it is rebuilt."""
        with self._lock:
            self._index.reset()

    def search(self, queries: Vectors, limits: Sequence[int]) -> list[list[Hit]]:
        """Return, for each query, the nearest products as `[(product's id, similarity)]`, nearest first.

        Args:
            queries: the vectors of the queries, one per row.
            limits: the maximum number of products for each query.

        Raises:
            SearchError: vectors are missing from the index.
        """
        with self._lock:
            if self._index.ntotal != len(self._ids):
                raise SearchError(f"index holds {self._index.ntotal} of {len(self._ids)} vectors")
            scores, rows = self._index.search(queries, min(max(limits), len(self._ids)))
        return [
            [(self._ids[row], float(score)) for row, score in zip(rows[at][:limit], scores[at][:limit], strict=True)]
            for at, limit in enumerate(limits)
        ]

    def figures(self) -> dict[str, Any]:
        """Return the state of the index as JSON: `kind`, `vectors`, `expected` and `state`.

        `kind` is `faiss flat`. `vectors` is the number of stored vectors. `expected` is the number of products,
        because each has one vector. `state` is `ready` if these two numbers are equal, and otherwise `incomplete`.
        """
        return _figures("faiss flat", int(self._index.ntotal), len(self._ids))

    def close(self) -> None:
        """Empty the index to release its memory."""
        self.drop()


class EmbeddedQdrant:
    """An index in Qdrant's engine, which runs in this process.

    Args:
        ids: the products' ids.
        vectors: the products' vectors, one per row in the order of `ids`.
        folder: the folder for the engine's files, used by this worker only; its old content is deleted.

    Raises:
        SearchError: the engine cannot be started.
    """

    def __init__(self, ids: Sequence[int], vectors: Vectors, folder: Path) -> None:
        self._expected = len(ids)
        try:
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir(parents=True)
            parameters = edge.EdgeVectorParams(size=DIMENSIONS, distance=edge.Distance.Dot)
            # The index is rebuilt from the products file after a crash, so no write-ahead log is needed.
            self._shard = edge.EdgeShard.create(
                str(folder), edge.EdgeConfig(vectors=parameters, max_search_threads=1, wal_enabled=False)
            )
            points = [edge.Point(key, row.tolist(), {}) for key, row in zip(ids, vectors, strict=True)]
            self._shard.update(edge.UpdateOperation.upsert_points(points))
        except Exception as error:
            # The engine raises plain `Exception` for all errors.
            raise SearchError(f"the embedded engine cannot be started: {error}") from error

    def search(self, queries: Vectors, limits: Sequence[int]) -> list[list[Hit]]:
        """Return, for each query, the nearest products as `[(product's id, similarity)]`, nearest first.

        Args:
            queries: the vectors of the queries, one per row.
            limits: the maximum number of products for each query.

        Raises:
            SearchError: the embedded engine fails.
        """
        requests = [
            edge.QueryRequest(limit=limit, query=edge.Query.Nearest(row.tolist()))
            for row, limit in zip(queries, limits, strict=True)
        ]
        try:
            found = self._shard.query_batch(edge.QueryBatchRequest(requests))
        except Exception as error:
            raise SearchError(f"the embedded engine: {error}") from error
        return [[(int(point.id), float(point.score)) for point in points] for points in found]

    def figures(self) -> dict[str, Any]:
        """Return the state of the index as JSON: `kind`, `vectors`, `expected` and `state`.

        `kind` is `qdrant embedded`. `vectors` is the number of stored vectors. `expected` is the number of products,
        because each has one vector. `state` is `ready` if these two numbers are equal, and otherwise `incomplete`.
        """
        return _figures("qdrant embedded", self._shard.info().points_count, self._expected)

    def close(self) -> None:
        """Close the files of the embedded Qdrant engine."""
        self._shard.close()


class QdrantServer:
    """An index in a Qdrant server, over its REST interface.

    Args:
        ids: the products' ids.
        vectors: the products' vectors, one per row in the order of `ids`.
        url: the address of the server.
        collection: the name of the collection on the server. If it does not exist, it is created. If its number of
            vectors differs from the number of products, all products are uploaded.

    Raises:
        SearchError: the server cannot be reached, or rejects a request.
    """

    def __init__(self, ids: Sequence[int], vectors: Vectors, *, url: str, collection: str) -> None:
        # It takes a tenth of a second to load, so import it only if a server is used.
        import httpx  # noqa: PLC0415

        self._refused = (httpx.HTTPError, ValueError, KeyError)
        self._expected = len(ids)
        self._path = f"/collections/{collection}"
        self._client = httpx.Client(base_url=url.rstrip("/"), timeout=_TIMEOUT_S, trust_env=False)
        try:
            self._fill(ids, vectors)
        except SearchError:
            self._client.close()
            raise

    def search(self, queries: Vectors, limits: Sequence[int]) -> list[list[Hit]]:
        """Return, for each query, the nearest products as `[(product's id, similarity)]`, nearest first.

        Args:
            queries: the vectors of the queries, one per row.
            limits: the maximum number of products for each query.

        Raises:
            SearchError: the server cannot be reached, or rejects the request.
        """
        searches = [{"query": row.tolist(), "limit": limit} for row, limit in zip(queries, limits, strict=True)]
        answered = self._ask("POST", f"{self._path}/points/query/batch", {"searches": searches})
        return [[(int(point["id"]), float(point["score"])) for point in one["points"]] for one in answered]

    def figures(self) -> dict[str, Any]:
        """Return the state of the index as JSON: `kind`, `vectors`, `expected` and `state`.

        `kind` is `qdrant server`. `vectors` is the number of stored vectors. `expected` is the number of products,
        because each has one vector. `state` is `ready` if these two numbers are equal, and otherwise `incomplete`. If
        the server does not answer, `vectors` is None and `state` is the error message.
        """
        try:
            held = int(self._ask("POST", f"{self._path}/points/count", {"exact": True})["count"])
        except SearchError as error:
            return {"kind": "qdrant server", "vectors": None, "expected": self._expected, "state": error.cause}
        return _figures("qdrant server", held, self._expected)

    def close(self) -> None:
        """Close the connection to the Qdrant server."""
        self._client.close()

    def _fill(self, ids: Sequence[int], vectors: Vectors) -> None:
        if self._ask("GET", f"{self._path}/exists")["exists"] and self.figures()["state"] == "ready":
            return
        try:
            self._ask("PUT", self._path, {"vectors": {"size": DIMENSIONS, "distance": "Dot"}})
        except SearchError:
            # Another worker may have created the collection first, which is fine; raise any other error.
            if not self._ask("GET", f"{self._path}/exists")["exists"]:
                raise
        for start in range(0, len(ids), _UPLOAD_POINTS):
            part = slice(start, start + _UPLOAD_POINTS)
            points = [{"id": key, "vector": row.tolist()} for key, row in zip(ids[part], vectors[part], strict=True)]
            self._ask("PUT", f"{self._path}/points?wait=true", {"points": points})

    def _ask(self, method: str, path: str, body: object = None) -> Any:
        try:
            answer = self._client.request(method, path, json=body)
            answer.raise_for_status()
            return answer.json()["result"]
        except self._refused as error:
            raise SearchError(f"qdrant server: {type(error).__name__}: {error}") from error
