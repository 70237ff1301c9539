"""Fixtures of the progress tests: streams whose readers are woken by polling or by Redis."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from relab.progress.signal import PollingSignal, ProgressSignal, RedisSignal
from relab.storage import Database
from support.progress.followers import Stream
from support.storage.migrated import migrate


@pytest.fixture
def anyio_backend() -> str:
    """The async library of the tests: relab supports only asyncio."""
    return "asyncio"


@pytest.fixture(params=["sqlite+polling", "postgres+redis"])
def stream(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Stream]:
    """A stream of each mode; the poll interval with Redis is an hour, so that only a signal can wake a reader."""
    signal: ProgressSignal = PollingSignal()
    url, redis_url, poll_s = f"sqlite:///{tmp_path}/progress.db", "", 0.02
    if request.param == "postgres+redis":
        url, poll_s = request.getfixturevalue("migrated_postgres_url"), 3_600.0
        redis_url = request.getfixturevalue("redis_server").url
        signal = RedisSignal(redis_url)
    database = Database.open(url)
    migrate(database)
    yield Stream(database, redis_url, signal, poll_s)
    signal.close()
    database.close()
