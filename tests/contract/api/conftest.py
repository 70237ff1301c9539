"""Fixtures of the API tests: all tests of a file share one installation of each kind and use unique run ids."""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterator

import pytest
from starlette.testclient import TestClient

from relab.bootstrap import Services, build
from relab.settings import load_settings
from rig.servers import PostgresServer, RedisServer
from support.api.client import running_api
from support.lab.process import SETTING_NAMES
from support.otlp.traces import Trace, assert_taken, encode, post
from support.storage.migrated import create_migrated, migrate

_numbers = itertools.count()


@pytest.fixture(scope="module", params=["sqlite+embedded", "postgres+rq"])
def installation(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Services]:
    """Services that the tests of a file share."""
    options: dict[str, object] = {}
    if request.param == "postgres+rq":
        postgres: PostgresServer = request.getfixturevalue("postgres")
        redis_server: RedisServer = request.getfixturevalue("redis_server")
        name = f"api_{os.getpid()}_{next(_numbers)}"
        options = {
            "database_url": create_migrated(postgres, name),
            "redis_url": redis_server.url,
            "rq_queue_name": name,
        }
    with pytest.MonkeyPatch.context() as environment:
        for name in [name for name in os.environ if name.startswith("RELAB_") or name in SETTING_NAMES]:
            environment.delenv(name)
        services = build(load_settings(tmp_path_factory.mktemp("home"), **options))
    migrate(services.database)
    yield services
    services.close()


@pytest.fixture(scope="module")
def api(installation: Services) -> Iterator[TestClient]:
    """A client of the shared installation, calling from this machine."""
    with running_api(installation) as client:
        yield client


@pytest.fixture
def run_id() -> str:
    """A run id that no other test uses."""
    return f"run-{next(_numbers)}"


@pytest.fixture
def trace(run_id: str) -> Trace:
    """A trace whose id no other test uses."""
    return Trace(run_id)


@pytest.fixture
def the_api_goes_on(api: TestClient, trace: Trace) -> Iterator[None]:
    """Check after the test that the API stores a valid trace."""
    yield
    after = Trace(f"after {trace.name}")
    assert assert_taken(post(api, encode(after.good()))) == (0, "")
    assert api.get(f"/agent-runs/{after.id}").json()["counts"]["steps"] == 1
