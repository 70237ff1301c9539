"""The group-commit writer: batches, back-pressure, stop and failures. Threads wait for events and never sleep."""

from __future__ import annotations

import gc
import threading
import weakref
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass, field

import pytest

from relab.storage.errors import DatabaseUnavailableError
from relab.storage.group_commit import GroupWriter, WriterStoppedError
from rig.waiting import wait_until

SOON_S = 10.0


class PoisonError(Exception):
    """The error of an item that the store cannot write."""


@dataclass
class Store:
    """A store whose writes wait until `open_` is set, and that records its batches and the written items."""

    poison: frozenset[str] = frozenset()
    refused: frozenset[str] = frozenset()
    away: frozenset[str] = frozenset()
    batches: list[list[str]] = field(default_factory=list)
    begun: threading.Semaphore = field(default_factory=lambda: threading.Semaphore(0))
    open_: threading.Event = field(default_factory=threading.Event)
    written: set[str] = field(default_factory=set)

    def write(self, batch: Sequence[str]) -> list[str | Exception]:
        """Store a batch; raise for an item in `away` or `poison`, and return an error for an item in `refused`."""
        self.batches.append(list(batch))
        self.begun.release()
        assert self.open_.wait(SOON_S)
        if self.away.intersection(batch):
            raise DatabaseUnavailableError("gone")
        if self.poison.intersection(batch):
            raise PoisonError("cannot be stored")
        self.written.update(batch)
        return [PoisonError(item) if item in self.refused else item.upper() for item in batch]

    def wait_for_write(self) -> None:
        """Wait until the next write has begun."""
        assert self.begun.acquire(timeout=SOON_S)


Writer = GroupWriter[str, str]


@contextmanager
def running(store: Store, **options: object) -> Iterator[Writer]:
    """Run a writer on the store; open the store and stop the writer when the block ends."""
    given: dict[str, object] = {"max_batch": 1_000, "max_waiting": 1_000_000, **options}
    writer: Writer = GroupWriter(store.write, **given)  # type: ignore[arg-type]
    writer.start()
    try:
        yield writer
    finally:
        store.open_.set()
        writer.stop()


def submit(writer: Writer, *items: str, weight: int = 1) -> list[Future[str]]:
    """Queue the items with the same weight, and return their futures."""
    answers: list[Future[str]] = []
    for item in items:
        answer: Future[str] = Future()
        writer.submit(item, weight, answer)
        answers.append(answer)
    return answers


@contextmanager
def thread(work: Callable[[], object]) -> Iterator[threading.Thread]:
    """Run `work` on a thread, and assert that the thread ends after the block."""
    worker = threading.Thread(target=work, daemon=True)
    worker.start()
    yield worker
    worker.join(SOON_S)
    assert not worker.is_alive()


def outcome(answer: Future[str]) -> str | type[BaseException]:
    error = answer.exception(SOON_S)
    return answer.result() if error is None else type(error)


def test_answer_is_set_only_after_the_write() -> None:
    store = Store()
    with running(store) as writer:
        [answer] = submit(writer, "a")
        store.wait_for_write()
        assert not answer.done()
        assert store.written == set()
        store.open_.set()
        assert answer.result(SOON_S) == "A"
        assert store.written == {"a"}


def test_next_batch_forms_in_order_during_a_write() -> None:
    store = Store()
    with running(store) as writer:
        [first] = submit(writer, "a")
        store.wait_for_write()
        others = submit(writer, *"bcdefg")
        assert writer.waiting == 6
        store.open_.set()
        assert [outcome(answer) for answer in [first, *others]] == list("ABCDEFG")
        assert store.batches == [["a"], list("bcdefg")]
        assert writer.waiting == 0


def test_batch_stays_within_its_maximum_weight() -> None:
    store = Store()
    with running(store, max_batch=10) as writer:
        submit(writer, "first")
        store.wait_for_write()
        answers = [
            answer
            for item, weight in (("a", 4), ("b", 6), ("c", 1), ("d", 10), ("e", 99), ("f", 9), ("g", 2), ("h", 0))
            for answer in submit(writer, item, weight=weight)
        ]
        store.open_.set()
        assert [outcome(answer) for answer in answers] == list("ABCDEFGH")
        assert store.batches[1:] == [["a", "b"], ["c"], ["d"], ["e"], ["f"], ["g", "h"]]


def test_every_batch_is_reported_with_its_weight() -> None:
    told: list[tuple[int, float]] = []
    store = Store()
    store.open_.set()
    with running(store, on_commit=lambda weight, seconds: told.append((weight, seconds))) as writer:
        for item in "abc":
            submit(writer, item, weight=7)[0].result(SOON_S)
    assert sum(weight for weight, _ in told) == 21
    assert all(seconds >= 0 for _, seconds in told)


def test_submitting_waits_while_the_queue_is_full() -> None:
    store = Store()
    with running(store, max_batch=5, max_waiting=5) as writer:
        submit(writer, "writing")
        store.wait_for_write()
        submit(writer, "a", weight=4)
        submit(writer, "b", weight=4)  # accepted because the queue was still below its limit
        assert writer.waiting == 8
        entered, submitted = threading.Event(), threading.Event()
        answers: list[Future[str]] = []

        def submit_late() -> None:
            entered.set()
            answers.extend(submit(writer, "late"))
            submitted.set()

        with thread(submit_late):
            assert entered.wait(SOON_S)
            # The queue has no room before the writer takes a batch, which it cannot do while the store is closed.
            assert not submitted.wait(0.05)
            assert writer.waiting == 8
            store.open_.set()
            assert submitted.wait(SOON_S)
        assert outcome(answers[0]) == "LATE"
    assert [item for batch in store.batches for item in batch] == ["writing", "a", "b", "late"]


def test_stop_writes_queued_items_and_accepts_no_more() -> None:
    store = Store()
    with running(store) as writer:
        answers = submit(writer, "a")
        store.wait_for_write()
        answers += submit(writer, "b", "c")
        with thread(writer.stop) as stopping:
            wait_until(lambda: refuses(writer), what="the writer refusing")
            assert stopping.is_alive()
            assert not any(answer.done() for answer in answers)
            store.open_.set()
        assert [answer.result(0) for answer in answers] == ["A", "B", "C"]
        assert refuses(writer)
        writer.stop()


def refuses(writer: Writer) -> bool:
    """Return whether the writer rejects a new item; the item has no weight."""
    try:
        writer.submit("probe", 0, Future())
    except WriterStoppedError as error:
        return bool(error.remedy)
    return False


def test_stop_rejects_callers_that_wait_for_room() -> None:
    store = Store()
    with running(store, max_waiting=1) as writer:
        submit(writer, "writing")
        store.wait_for_write()
        submit(writer, "waiting")
        turned_away = threading.Event()

        def submit_late() -> None:
            with pytest.raises(WriterStoppedError):
                submit(writer, "late")
            turned_away.set()

        with thread(submit_late), thread(writer.stop):
            assert turned_away.wait(SOON_S)
            store.open_.set()
    assert store.written == {"writing", "waiting"}


def test_a_writer_that_never_started_can_be_stopped() -> None:
    writer: Writer = GroupWriter(Store().write, max_batch=1, max_waiting=1)
    writer.stop()
    with pytest.raises(WriterStoppedError):
        submit(writer, "a")


def batch_of(store: Store, *items: str) -> list[str | type[BaseException]]:
    """Write the items as one batch, and return the answer or the error type of each."""
    with running(store) as writer:
        submit(writer, "first")
        store.wait_for_write()
        answers = submit(writer, *items)
        store.open_.set()
        return [outcome(answer) for answer in answers]


def test_unavailable_database_fails_the_whole_batch_after_one_write() -> None:
    store = Store(away=frozenset("b"))
    assert batch_of(store, *"abcd") == [DatabaseUnavailableError] * 4
    assert len(store.batches) == 2


def test_writer_continues_after_a_database_outage() -> None:
    store = Store(away=frozenset("b"))
    store.open_.set()
    with running(store) as writer:
        assert [outcome(submit(writer, item)[0]) for item in "abc"] == ["A", DatabaseUnavailableError, "C"]


@pytest.mark.parametrize("poison", ["a", "h", "d", "ae", "abcdefgh", "cdg"])
def test_invalid_item_is_isolated_and_all_others_stored(poison: str) -> None:
    store = Store(poison=frozenset(poison))
    items = "abcdefgh"
    assert batch_of(store, *items) == [PoisonError if item in poison else item.upper() for item in items]
    assert store.written == {"first", *items} - set(poison)


def test_one_invalid_item_is_isolated_with_few_writes() -> None:
    store = Store(poison=frozenset(["77"]))
    batch_of(store, *map(str, range(256)))
    assert len(store.batches) <= 1 + 1 + 2 * 8


def test_outage_during_isolation_fails_only_the_items_of_the_failed_write() -> None:
    store = Store(poison=frozenset("a"), away=frozenset("d"))
    # The database is already unavailable for the write of the whole batch.
    assert batch_of(store, *"abcd") == [DatabaseUnavailableError] * 4

    class Later(Store):
        def write(self, batch: Sequence[str]) -> list[str | Exception]:
            if len(self.batches) >= 2:
                self.away = frozenset("d")
            return super().write(batch)

    assert batch_of(Later(poison=frozenset("a")), *"abcd") == [
        PoisonError,
        "B",
        DatabaseUnavailableError,
        DatabaseUnavailableError,
    ]


def test_error_of_one_item_does_not_affect_others() -> None:
    store = Store(refused=frozenset("b"))
    assert batch_of(store, *"abc") == ["A", PoisonError, "C"]
    assert len(store.batches) == 2


@pytest.mark.parametrize("fault", ["none", "refused", "poison", "away"])
def test_cancelled_waiter_does_not_affect_others(fault: str) -> None:
    store = Store(**({} if fault == "none" else {fault: frozenset("b")}))  # type: ignore[arg-type]
    with running(store) as writer:
        submit(writer, "first")
        store.wait_for_write()
        answers = submit(writer, *"abc")
        assert answers[1].cancel()
        store.open_.set()
        expected: object = DatabaseUnavailableError if fault == "away" else "A"
        assert outcome(answers[0]) == expected
        assert outcome(answers[2]) == (expected if fault == "away" else "C")
        assert outcome(submit(writer, "later")[0]) == "LATER"


def test_caller_cancelled_during_the_write_does_not_affect_others() -> None:
    store = Store()
    with running(store) as writer:
        [answer] = submit(writer, "a")
        store.wait_for_write()
        assert answer.cancel()
        store.open_.set()
        assert outcome(submit(writer, "later")[0]) == "LATER"


def test_failing_listener_does_not_stop_the_writer() -> None:
    def fail(_weight: int, _seconds: float) -> None:
        raise RuntimeError("the gauge broke")

    store = Store()
    store.open_.set()
    with running(store, on_commit=fail) as writer:
        assert [outcome(submit(writer, item)[0]) for item in "abc"] == ["A", "B", "C"]


def test_each_of_many_threads_gets_the_answer_to_its_own_item() -> None:
    store = Store()
    store.open_.set()
    failures: list[str] = []
    start = threading.Barrier(8)

    def work(number: int) -> None:
        start.wait(SOON_S)
        for turn in range(50):
            item = f"{number}-{turn}-x"
            if outcome(submit(writer, item)[0]) != item.upper():
                failures.append(item)

    with running(store, max_batch=7, max_waiting=9) as writer:
        threads = [threading.Thread(target=work, args=(number,), daemon=True) for number in range(8)]
        for worker in threads:
            worker.start()
        for worker in threads:
            worker.join(SOON_S)
    assert failures == []
    assert len(store.written) == 400
    assert max(map(len, store.batches)) <= 7


class Heavy:
    """An item that a weak reference may refer to."""


@pytest.mark.parametrize("error", [DatabaseUnavailableError("gone"), PoisonError("cannot be stored")])
def test_failed_items_are_freed_without_a_garbage_collection(error: Exception) -> None:
    def write(batch: Sequence[Heavy]) -> list[str | Exception]:
        # Not the same object each time: the error refers to the frames that it passed.
        raise type(error)(*error.args)

    writer: GroupWriter[Heavy, str] = GroupWriter(write, max_batch=1_000, max_waiting=1_000_000)
    item, answer = Heavy(), Future[str]()
    freed = weakref.ref(item)
    gc.collect()
    gc.disable()
    try:
        writer.start()
        writer.submit(item, 1, answer)
        assert type(answer.exception(SOON_S)) is type(error)
        writer.stop()
        del item, answer
        assert freed() is None
    finally:
        gc.enable()
