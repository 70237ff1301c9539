"""Retention of incidents on each back end: old ended incidents are deleted with their checkpoints, and others stay."""

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
    """The state of the graphs in these tests."""

    word: str


def remember(database: Database, home: Path, thread_ids: list[str]) -> None:
    """Run a graph for each thread id, which stores its checkpoints."""

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
    """Return the thread ids that have checkpoints."""

    async def go() -> list[str]:
        async with checkpoints(database, home) as saver:
            return [each for each in thread_ids if await saver.aget_tuple({"configurable": {"thread_id": each}})]

    return asyncio.run(go())


@pytest.fixture
def old(database: Database, tmp_path: Path) -> tuple[IncidentLog, list[str]]:
    """The log and the ids of five incidents with checkpoints, one per day; only the last incident is open."""
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
    # Open incidents stay, whatever their age.
    assert remembered(database, tmp_path, ids) == ids[4:]
    assert log.actions.of_incident(ids[4]) != []


def test_interrupted_pruning_is_continued(
    database: Database, tmp_path: Path, old: tuple[IncidentLog, list[str]]
) -> None:
    log, ids = old
    retention = Retention(database, log, tmp_path)
    assert next(retention.prune(100 * DAY_US, batch=1)) == 1
    # This deletes only checkpoints, like a pruning that is killed before it deletes the incident.
    asyncio.run(delete_threads(database, tmp_path, ids[1:2]))
    assert sum(retention.prune(100 * DAY_US, batch=1)) == 3
    assert remembered(database, tmp_path, ids) == ids[4:]
    assert list(retention.prune(100 * DAY_US)) == []


def test_prune_without_checkpoints_succeeds(tmp_path: Path) -> None:
    database = Database.open(f"sqlite:///{tmp_path / 'relab.db'}")
    asyncio.run(delete_threads(database, tmp_path, ["none"]))
    assert not (tmp_path / FILE).exists()
    database.close()
