"""The template of testbeds exists complete or not at all."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Event
from typing import Any

import pytest

from relab.testbed.supervisor import template
from relab.testbed.supervisor.postgres import PostgresPasswords
from relab.testbed.supervisor.programs import PostgresPrograms

PROGRAMS = PostgresPrograms(Path("/nowhere"), "postgres (PostgreSQL) 17.0", None, statements=False)


class Cluster:
    """Stands for a database server: only its data folder is needed."""

    def __init__(self, _programs: PostgresPrograms, folder: Path, **_options: Any) -> None:
        self._folder = folder

    async def make(self, _credentials: PostgresPasswords) -> None:
        (self._folder / "PG_VERSION").write_text("17\n")

    async def fill(self, _work: Callable[[int], None]) -> None:
        """Leave the folder as it is."""


def test_start_that_is_stopped_while_its_template_is_written_to_the_disk_leaves_no_template(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    removing, one_thread, remove_tree = Event(), ThreadPoolExecutor(1), template.remove_tree

    async def start() -> None:
        loop = asyncio.get_running_loop()
        loop.set_default_executor(one_thread)
        making = asyncio.create_task(template.ensure(PROGRAMS, "relab.testbed.target.seed", tmp_path))

        def stop_start(_descriptor: int) -> None:
            loop.call_soon_threadsafe(making.cancel)
            removing.wait(10)

        monkeypatch.setattr(os, "fsync", stop_start)
        await making

    def remove_late(path: Path) -> None:
        removing.set()
        # This call returns when the thread has ended its work.
        one_thread.submit(int).result(10)
        remove_tree(path)

    monkeypatch.setattr(template, "NewCluster", Cluster)
    monkeypatch.setattr(template, "remove_tree", remove_late)

    with pytest.raises(asyncio.CancelledError):
        asyncio.run(start())

    assert [path.name for path in tmp_path.iterdir()] == ["lock"]
