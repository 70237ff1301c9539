"""Fixtures of the queue tests: installations of each mode, with and without workers."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack
from pathlib import Path

import pytest
import structlog

from support.jobs.installation import LONG_LEASE_S, Installation, install
from support.storage.migrated import create_migrated


@pytest.fixture(autouse=True)
def logs() -> Iterator[list[structlog.typing.EventDict]]:
    """The captured log entries, which would otherwise fill the terminal with tracebacks."""
    with structlog.testing.capture_logs() as captured:
        yield captured


MODES = ["sqlite+embedded", pytest.param("postgres+embedded", marks=pytest.mark.full), "postgres+rq"]


def _install(mode: str, folder: Path, request: pytest.FixtureRequest) -> AbstractContextManager[Installation]:
    database, _, queue = mode.partition("+")
    return install(
        folder,
        make_postgres_url=(
            functools.partial(create_migrated, request.getfixturevalue("postgres")) if database == "postgres" else None
        ),
        redis_url=request.getfixturevalue("redis_server").url if queue == "rq" else "",
    )


@pytest.fixture(params=MODES)
def installation(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Installation]:
    """An installation of each mode, without a worker."""
    with _install(request.param, tmp_path, request) as made:
        yield made


@pytest.fixture(scope="module", params=MODES)
def staffed(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installation]:
    """An installation of each mode with two running workers."""
    with _install(request.param, tmp_path_factory.mktemp("staffed"), request) as made, ExitStack() as stack:
        for _ in range(2):
            stack.enter_context(made.worker(lease_s=LONG_LEASE_S))
        yield made
