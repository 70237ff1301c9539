"""Attributes that are built at their first use."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

from relab.core.composed import composed

THREADS = 8


class Whole:
    """An object with one part that is built at its first use."""

    def __init__(self) -> None:
        self.built: list[object] = []
        self.may_finish = threading.Event()

    @composed
    def part(self) -> object:
        """The part."""
        self.built.append(part := object())
        self.may_finish.wait(0.1)
        return part


def test_part_is_built_once_for_all_threads() -> None:
    whole, barrier = Whole(), threading.Barrier(THREADS)

    def read() -> object:
        barrier.wait()
        return whole.part

    with ThreadPoolExecutor(THREADS) as pool:
        found = [each.result() for each in [pool.submit(read) for _ in range(THREADS)]]

    assert len(whole.built) == 1
    assert set(map(id, found)) == {id(whole.built[0])}


def test_each_object_has_its_own_part() -> None:
    one, other = Whole(), Whole()

    assert one.part is not other.part


def test_class_shows_the_attribute_with_its_docstring() -> None:
    assert Whole.part.__doc__ == "The part."
