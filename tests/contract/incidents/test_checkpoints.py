"""Checkpoints of graphs on each back end: another process can resume the graph, and only plain values are restored."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypedDict

import pytest
from langgraph.checkpoint.base import BaseCheckpointSaver
from langgraph.graph import END, START, StateGraph
from langgraph.types import Command, interrupt

from relab.incidents.checkpoints import FILE, checkpoints
from relab.storage import Database
from relab.storage.errors import DatabaseUnavailableError

CONFIG: Any = {"configurable": {"thread_id": "i-1"}}


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


class State(TypedDict, total=False):
    facts: dict[str, Any]
    foreign: Any
    answer: str


@dataclass
class Foreign:
    """A class that is not on the checkpoints' list of allowed classes."""

    word: str


def graph_of(saver: BaseCheckpointSaver[Any]) -> Any:
    def look(_state: State) -> State:
        return {"facts": {"errors.pct": 12.5, "worker": None, "names": ["a", "b"]}}

    def ask(_state: State) -> State:
        return {"answer": interrupt("May I?")}

    graph = StateGraph(State)
    graph.add_node("look", look)
    graph.add_node("ask", ask)
    graph.add_edge(START, "look")
    graph.add_edge("look", "ask")
    graph.add_edge("ask", END)
    return graph.compile(checkpointer=saver)


@pytest.mark.anyio
async def test_graph_is_resumed_by_another_process(database: Database, tmp_path: Path) -> None:
    async with checkpoints(database, tmp_path) as saver:
        await graph_of(saver).ainvoke({}, CONFIG, durability="sync")
    async with checkpoints(database, tmp_path) as saver:
        before = await graph_of(saver).aget_state(CONFIG)
        found = await graph_of(saver).ainvoke(Command(resume="yes"), CONFIG, durability="sync")

    assert before.next == ("ask",)
    assert found["answer"] == "yes"
    assert found["facts"] == {"errors.pct": 12.5, "worker": None, "names": ["a", "b"]}


@pytest.mark.anyio
async def test_foreign_object_is_not_restored_as_its_class(database: Database, tmp_path: Path) -> None:
    async with checkpoints(database, tmp_path) as saver:
        await graph_of(saver).ainvoke({"foreign": Foreign("a word")}, CONFIG, durability="sync")
    async with checkpoints(database, tmp_path) as saver:
        found = (await graph_of(saver).aget_state(CONFIG)).values["foreign"]

    assert not isinstance(found, Foreign)


@pytest.mark.anyio
async def test_several_savers_can_open_at_once(database: Database, tmp_path: Path) -> None:
    begun = asyncio.Barrier(4)

    async def begin() -> None:
        async with asyncio.timeout(60), checkpoints(database, tmp_path) as saver:
            assert await saver.aget_tuple(CONFIG) is None
            await begun.wait()

    await asyncio.gather(*(begin() for _ in range(4)))


@pytest.mark.anyio
async def test_file_that_cannot_be_opened_is_an_unavailable_database(tmp_path: Path) -> None:
    database = Database.open(f"sqlite:///{tmp_path / 'relab.db'}")
    (tmp_path / FILE).mkdir()
    with pytest.raises(DatabaseUnavailableError) as caught:
        async with checkpoints(database, tmp_path):
            pass
    database.close()
    assert str(tmp_path / FILE) in caught.value.message
    assert caught.value.remedy is not None
