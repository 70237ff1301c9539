"""Group commit: one writer per process commits the items of many requests together.

A durable commit waits for the disk, and with one transaction per request each request would wait. With group commit,
items are queued, and while one commit runs, the next batch of items is collected. Under higher load, the cost per
request therefore decreases. A request is answered only after the commit that contains its item.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future, InvalidStateError
from dataclasses import dataclass
from typing import Generic, TypeVar

from relab.core.errors import UnavailableError
from relab.core.logging import get_logger
from relab.storage.errors import DatabaseUnavailableError

Item = TypeVar("Item")
Result = TypeVar("Result")

_log = get_logger(__name__)


class WriterStoppedError(UnavailableError):
    """The process is stopping and accepts no more items: send the item again later, or to another process."""

    code = "writer_stopped"


def resolve(answer: Future[Result], result: Result | Exception) -> None:
    """Set the result or the exception of a future; do nothing if the future is already cancelled or done."""
    try:
        if isinstance(result, Exception):
            answer.set_exception(result)
        else:
            answer.set_result(result)
    except InvalidStateError:
        # The request was cancelled because its client disconnected; its item is stored even so.
        pass


@dataclass(frozen=True, slots=True)
class _Waiting(Generic[Item, Result]):
    item: Item
    weight: int
    answer: Future[Result]


class GroupWriter(Generic[Item, Result]):
    """Collects items from many threads and writes them in batches, on a separate thread.

    The caller gives each item a weight, such as its number of rows.

    Args:
        write: stores a batch of items; returns, for each item in order, its result, or its error if the item failed.
        max_batch: the maximum total weight of a batch. An item with a greater weight forms a batch alone.
        max_waiting: `submit` waits while the total weight of the queued items is at least this number.
        on_commit: called after each batch, stored or not, with the weight of the batch and its duration in seconds.
        name: the name of the thread.
    """

    def __init__(
        self,
        write: Callable[[Sequence[Item]], Sequence[Result | Exception]],
        *,
        max_batch: int,
        max_waiting: int,
        on_commit: Callable[[int, float], None] = lambda _weight, _seconds: None,
        name: str = "group-writer",
    ) -> None:
        self._write = write
        self._max_batch = max_batch
        self._max_waiting = max_waiting
        self._on_commit = on_commit
        self._waiting: deque[_Waiting[Item, Result]] = deque()
        self._weight = 0
        self._stopping = False
        self._changed = threading.Condition()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    @property
    def waiting(self) -> int:
        """The total weight of the queued items, without the batch that is being written."""
        return self._weight

    def start(self) -> None:
        """Start the writer thread."""
        self._thread.start()

    def stop(self) -> None:
        """Write all queued items and stop the thread; accept no more items."""
        with self._changed:
            self._stopping = True
            self._changed.notify_all()
        if self._thread.ident is not None:
            self._thread.join()

    def submit(self, item: Item, weight: int, answer: Future[Result]) -> None:
        """Add an item to the queue of items to write; wait while the queue is full.

        Args:
            item: the item to write.
            weight: the size of the item, such as its number of rows, in the unit of `max_batch` and `max_waiting`.
            answer: gets the item's result when the item is committed, or the error if the item could not be stored.

        Raises:
            WriterStoppedError: the writer was stopped.
        """
        with self._changed:
            self._changed.wait_for(lambda: self._stopping or self._weight < self._max_waiting)
            if self._stopping:
                raise WriterStoppedError("This process is stopping.", remedy="Send it again.")
            self._waiting.append(_Waiting(item, weight, answer))
            self._weight += weight
            self._changed.notify_all()

    def _run(self) -> None:
        while batch := self._next_batch():
            started = time.perf_counter()
            self._settle(batch)
            try:
                self._on_commit(sum(waiting.weight for waiting in batch), time.perf_counter() - started)
            except Exception:  # noqa: BLE001 an error in the metrics must not stop commits
                _log.exception("commit_listener_failed")

    def _next_batch(self) -> list[_Waiting[Item, Result]]:
        """Wait for items and return the next batch; return an empty list if the writer is stopped and has no items."""
        with self._changed:
            self._changed.wait_for(lambda: self._waiting or self._stopping)
            batch: list[_Waiting[Item, Result]] = []
            weight = 0
            while self._waiting and (not batch or weight + self._waiting[0].weight <= self._max_batch):
                taken = self._waiting.popleft()
                weight += taken.weight
                batch.append(taken)
            self._weight -= weight
            self._changed.notify_all()
            return batch

    def _settle(self, batch: Sequence[_Waiting[Item, Result]]) -> None:
        """Write a batch, and give each item's future its result or error.

        If the database is unavailable, all items get this error. Any other error splits the batch: both halves are
        written separately, and so on, so that in the end only the items that cause an error get it.
        """
        try:
            results = self._write([waiting.item for waiting in batch])
        except DatabaseUnavailableError as error:
            _resolve_all(batch, [error] * len(batch))
        except Exception as error:  # noqa: BLE001 the waiting callers get the error, and the items of others are still written
            if len(batch) == 1:
                _resolve_all(batch, [error])
                return
            _log.warning("batch_split", items=len(batch), error=f"{type(error).__name__}: {error}"[:500])
            middle = len(batch) // 2
            self._settle(batch[:middle])
            self._settle(batch[middle:])
        else:
            _resolve_all(batch, results)
        finally:
            # The traceback of an error refers to this frame. If the frame still referred to the future that has the
            # error, this cycle would keep the items in memory until a garbage collection, and those are rare.
            del batch


def _resolve_all(batch: Sequence[_Waiting[Item, Result]], results: Sequence[Result | Exception]) -> None:
    """Set the result or the exception of each item's future; `results` are in the order of the batch."""
    for waiting, result in zip(batch, results, strict=True):
        resolve(waiting.answer, result)
