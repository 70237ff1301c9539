"""A cache of sentence vectors: one SQLite file, for one model, of bounded size.

All vectors can be recomputed, so the file is never repaired. Vectors of another model are deleted, and a damaged
file is created anew. Every change is one transaction, so that two processes may use it at the same time.
"""

from __future__ import annotations

import hashlib
import sqlite3
from collections.abc import Collection, Iterator, Mapping
from contextlib import closing, contextmanager
from itertools import islice
from pathlib import Path
from typing import Final, Literal

from relab.core.logging import get_logger
from relab.knowledge.errors import VectorStoreError

MAX_VECTORS: Final = 20_000
"""About 30 MB for vectors of 384 numbers; ten times as many as the shipped runbooks and 500 incidents need."""
FILE: Final = "vectors.sqlite3"
_VERSION: Final = 1
_WAIT_S: Final = 10.0
_AT_ONCE: Final = 500
_DAMAGED: Final = frozenset((sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB))

log = get_logger(__name__)


class VectorStore:
    """Caches the vectors that one sentence model computed, in an SQLite file; the key is the sentence.

    Args:
        folder: the folder of the file; it is created when needed.
        model: name and digest of the model. `put` deletes the vectors of other models.
        size: the size of a vector in bytes; `get` ignores stored vectors of another size.
        most: the maximum number of stored vectors; the oldest are deleted first.
    """

    def __init__(self, folder: Path, *, model: str, size: int, most: int = MAX_VECTORS) -> None:
        self._path = folder / FILE
        self._model = model
        self._size = size
        self._most = most

    def get(self, texts: Collection[str]) -> dict[str, bytes]:
        """Return the stored vectors of these texts, as `{text: bytes}`; texts without a stored vector are left out.

        Raises:
            VectorStoreError: the file cannot be used. A damaged file is deleted, so that the next call succeeds.
        """
        if not self._path.exists():
            return {}
        by_key = {_key(text): text for text in texts}
        found: dict[str, bytes] = {}
        keys = iter(by_key)
        with self._transaction("DEFERRED") as connection:
            while some := list(islice(keys, _AT_ONCE)):
                marks = ",".join("?" * len(some))
                rows = connection.execute(
                    f"SELECT text, vector FROM vectors WHERE model = ? AND text IN ({marks})",  # noqa: S608 - marks only
                    (self._model, *some),
                )
                found |= {by_key[key]: vector for key, vector in rows if len(vector) == self._size}
        return found

    def put(self, vectors: Mapping[str, bytes]) -> None:
        """Store vectors, given as `{text: bytes}`.

        Raises:
            VectorStoreError: the file cannot be used. A damaged file is deleted, so that the next call succeeds.
        """
        rows = [(self._model, _key(text), vector) for text, vector in vectors.items()]
        with self._transaction("IMMEDIATE") as connection:
            others = connection.execute("DELETE FROM vectors WHERE model != ?", (self._model,)).rowcount
            connection.executemany("INSERT OR REPLACE INTO vectors (model, text, vector) VALUES (?, ?, ?)", rows)
            connection.execute(
                "DELETE FROM vectors WHERE number <= (SELECT number FROM vectors ORDER BY number DESC LIMIT 1 OFFSET ?)",
                (self._most,),
            )
        if others:
            log.info("vectors_of_another_model_deleted", count=others, model=self._model, file=str(self._path))

    @contextmanager
    def _transaction(self, mode: Literal["DEFERRED", "IMMEDIATE"]) -> Iterator[sqlite3.Connection]:
        """Yield a connection in a new transaction of this mode; commit it unless the `with` block raises.

        Use `DEFERRED` for reads: it waits only while another process commits. Use `IMMEDIATE` for writes: it waits
        until no other process is in a write transaction.
        """
        try:
            with closing(self._connect()) as connection:
                connection.execute(f"BEGIN {mode}")
                yield connection
                connection.commit()
        except (sqlite3.Error, OSError) as error:
            if getattr(error, "sqlite_errorcode", None) in _DAMAGED:
                # Only a part of the file is damaged, so `_connect` did not notice; the next call creates a new file.
                self._delete(error)
            raise VectorStoreError(
                f"The store of vectors {self._path} cannot be used: {error}.",
                remedy="Set VECTOR_STORE_PATH to a writable folder; its content may be deleted.",
            ) from error

    def _connect(self) -> sqlite3.Connection:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        try:
            return _prepared(self._path)
        except sqlite3.DatabaseError as error:
            if error.sqlite_errorcode not in _DAMAGED:
                raise
            self._delete(error)
            return _prepared(self._path)

    def _delete(self, reason: Exception) -> None:
        log.warning("vectors_made_anew", file=str(self._path), reason=str(reason))
        # Delete the journal of a killed writer, too: SQLite would roll it back into the new file.
        for path in (self._path.with_name(f"{FILE}-journal"), self._path):
            path.unlink(missing_ok=True)


def _prepared(path: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(path, timeout=_WAIT_S, isolation_level=None)
    try:
        if not _is_current(connection):
            connection.execute("BEGIN IMMEDIATE")
            if not _is_current(connection):  # another process may have made the table meanwhile
                connection.execute("DROP TABLE IF EXISTS vectors")
                connection.execute(
                    "CREATE TABLE vectors (number INTEGER PRIMARY KEY AUTOINCREMENT, model TEXT NOT NULL,"
                    " text TEXT NOT NULL, vector BLOB NOT NULL, UNIQUE (model, text))"
                )
                connection.execute(f"PRAGMA user_version = {_VERSION}")
            connection.commit()
    except BaseException:
        connection.close()
        raise
    return connection


def _is_current(connection: sqlite3.Connection) -> bool:
    return bool(connection.execute("PRAGMA user_version").fetchone()[0] == _VERSION)


def _key(text: str) -> str:
    return hashlib.sha256(text.encode(errors="surrogatepass")).hexdigest()
