"""The two ways in which readers of progress are woken."""

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
    """relab runs on asyncio alone."""
    return "asyncio"


@pytest.fixture(params=["sqlite+polling", "postgres+redis"])
def stream(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Stream]:
    """A stream of each mode. With Redis nothing is polled, so that only a signal can wake a reader."""
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
