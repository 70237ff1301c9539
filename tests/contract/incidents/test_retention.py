"""Deleting what ended long ago, on each back end: nothing of it is left, and nothing else is gone."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any, TypedDict

import pytest
from langgraph.graph import END, START, StateGraph

from relab.incidents.checkpoints import FILE, checkpoints, delete_threads
from relab.incidents.retention import Retention
from relab.incidents.storage.log import IncidentLog
from relab.incidents.storage.models import IncidentOutcome
from relab.storage import Database
from support.incidents.logs import asked, opened

DAY_US = 86_400_000_000


class State(TypedDict, total=False):
    """What a graph of these tests hands on."""

    word: str


def remember(database: Database, home: Path, thread_ids: list[str]) -> None:
    """Leave the checkpoints of some graphs behind."""

    async def go() -> None:
        graph: Any = StateGraph(State)
        graph.add_node("say", lambda _state: {"word": "well"})
        graph.add_edge(START, "say")
        graph.add_edge("say", END)
        async with checkpoints(database, home) as saver:
            compiled = graph.compile(checkpointer=saver)
            for thread_id in thread_ids:
                await compiled.ainvoke({}, {"configurable": {"thread_id": thread_id}}, durability="sync")

    asyncio.run(go())


def remembered(database: Database, home: Path, thread_ids: list[str]) -> list[str]:
    """Return which of some graphs have checkpoints."""

    async def go() -> list[str]:
        async with checkpoints(database, home) as saver:
            return [each for each in thread_ids if await saver.aget_tuple({"configurable": {"thread_id": each}})]

    return asyncio.run(go())


@pytest.fixture
def old(database: Database, tmp_path: Path) -> tuple[IncidentLog, list[str]]:
    """Five incidents, a day apart, of which the last is open; with the checkpoints of their graphs."""
    log = IncidentLog(database)
    ids = []
    for day in range(5):
        ids.append(opened(log, f"shop-{day}", at_us=day * DAY_US).incident_id)
        log.actions.put(asked(ids[-1], key=f"key-{day}"))
        if day < 4:
            log.close(ids[-1], at_us=day * DAY_US + 1, outcome=IncidentOutcome.PASSED)
    remember(database, tmp_path, ids)
    return log, ids


def test_pruned_incident_loses_its_checkpoints_and_others_stay(
    database: Database, tmp_path: Path, old: tuple[IncidentLog, list[str]]
) -> None:
    log, ids = old
    retention = Retention(database, log, tmp_path)
    assert retention.count(3 * DAY_US) == 3
    assert list(retention.prune(3 * DAY_US, batch=2)) == [2, 1]
    assert [item.incident_id for item in reversed(log.list_incidents().items)] == ids[3:]
    assert remembered(database, tmp_path, ids) == ids[3:]
    assert list(retention.prune(100 * DAY_US)) == [1]
    # What is open stays however old it is.
    assert remembered(database, tmp_path, ids) == ids[4:]
    assert log.actions.of_incident(ids[4]) != []


def test_a_pruning_that_was_stopped_is_gone_on_with(
    database: Database, tmp_path: Path, old: tuple[IncidentLog, list[str]]
) -> None:
    log, ids = old
    retention = Retention(database, log, tmp_path)
    assert next(retention.prune(100 * DAY_US, batch=1)) == 1
    # And one that was killed between checkpoints and incident.
    asyncio.run(delete_threads(database, tmp_path, ids[1:2]))
    assert sum(retention.prune(100 * DAY_US, batch=1)) == 3
    assert remembered(database, tmp_path, ids) == ids[4:]
    assert list(retention.prune(100 * DAY_US)) == []


def test_prune_without_checkpoints_succeeds(tmp_path: Path) -> None:
    database = Database.open(f"sqlite:///{tmp_path / 'relab.db'}")
    asyncio.run(delete_threads(database, tmp_path, ["none"]))
    assert not (tmp_path / FILE).exists()
    database.close()
