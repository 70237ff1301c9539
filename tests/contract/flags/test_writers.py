"""Concurrent writers of one flag: a stale write gets an error, and no accepted change is lost."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack

import pytest

from relab.core.clock import SystemClock
from relab.flags.errors import FlagExistsError, StaleFlagVersionError
from relab.flags.models import FlagVersion
from relab.flags.service import FlagService
from relab.storage import Database
from rig.children import read_line, send_line
from support.flags.contents import content
from support.lab.forked import forked

WRITERS, CHANGES = 4, 8


def at_once(work: list[object], flag_database_url: str) -> list[object]:
    """Run all functions at the same moment, each in a thread with its own database connections; return the results."""
    barrier = threading.Barrier(len(work))

    def run(piece: object) -> object:
        database = Database.open(flag_database_url)
        database.ping()
        barrier.wait()
        try:
            assert callable(piece)
            return piece(FlagService(database, SystemClock()))
        finally:
            database.close()

    with ThreadPoolExecutor(len(work)) as threads:
        return list(threads.map(run, work))


def test_one_of_several_writers_on_the_same_version_wins_and_the_others_get_an_error(
    flags: FlagService, flag_database_url: str, key: str
) -> None:
    flags.create(key, content(), author="ann")

    def change(author: str) -> object:
        def work(service: FlagService) -> FlagVersion | StaleFlagVersionError:
            try:
                return service.update(key, content(description=author), expected={1}, author=author)
            except StaleFlagVersionError as error:
                return error

        return work

    outcomes = at_once([change(f"w{number}") for number in range(6)], flag_database_url)

    winners = [item for item in outcomes if isinstance(item, FlagVersion)]
    assert len(winners) == 1
    assert flags.get(key) == winners[0]
    assert [item.version for item in flags.history(key).items] == [2, 1]


def test_one_of_several_creators_of_a_flag_wins(flags: FlagService, flag_database_url: str, key: str) -> None:
    def make(service: FlagService) -> FlagVersion | FlagExistsError:
        try:
            return service.create(key, content(), author="ann")
        except FlagExistsError as error:
            return error

    outcomes = at_once([make] * 6, flag_database_url)

    assert [type(item) for item in outcomes].count(FlagVersion) == 1
    assert len(flags.history(key).items) == 1


def test_writers_that_retry_on_the_current_version_lose_nothing(
    flags: FlagService, flag_database_url: str, key: str
) -> None:
    flags.create(key, content(value_type="number", variants={"n": 0}, default_variant="n"), author="ann")

    def increment(service: FlagService) -> None:
        done = 0
        while done < CHANGES:
            seen = service.get(key)
            value = seen.content.variants["n"]
            assert isinstance(value, int)
            raised = content(value_type="number", variants={"n": value + 1}, default_variant="n")
            try:
                service.update(key, raised, expected={seen.version}, author="w")
            except StaleFlagVersionError:
                continue
            done += 1

    at_once([increment] * WRITERS, flag_database_url)

    total = WRITERS * CHANGES
    assert flags.get(key).content.variants == {"n": total}
    numbers = [flags.get_version(key, version).content.variants["n"] for version in range(1, total + 2)]
    assert numbers == list(range(total + 1))


def test_writers_without_an_expected_version_each_add_a_version(
    flags: FlagService, flag_database_url: str, key: str
) -> None:
    flags.create(key, content(), author="ann")

    def roll_back(author: str) -> object:
        def work(service: FlagService) -> None:
            for _ in range(CHANGES):
                service.rollback(key, 1, expected=None, author=author)

        return work

    at_once([roll_back(f"w{number}") for number in range(WRITERS)], flag_database_url)

    items = flags.history(key, limit=500).items
    assert [item.version for item in reversed(items)] == list(range(1, WRITERS * CHANGES + 2))
    assert sorted(item.author for item in items if item.author != "ann") == sorted(
        f"w{number}" for number in range(WRITERS) for _ in range(CHANGES)
    )


@pytest.mark.full
def test_concurrent_processes_lose_no_change(flags: FlagService, flag_database_url: str, key: str) -> None:
    flags.create(key, content(value_type="number", variants={"n": 0}, default_variant="n"), author="ann")

    with ExitStack() as stack:
        children = [
            stack.enter_context(forked("support.flags.child", flag_database_url, key, str(CHANGES))) for _ in range(3)
        ]
        assert [read_line(process) for process in children] == ["ready"] * 3
        for process in children:
            send_line(process)
        assert [read_line(process) for process in children] == ["done"] * 3

    assert flags.get(key).content.variants == {"n": 3 * CHANGES}
    assert flags.get(key).version == 3 * CHANGES + 1
