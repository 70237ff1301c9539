"""Fixtures shared by all tests: databases on both back ends, services in both modes."""

from __future__ import annotations

import atexit
import gc
import itertools
import os
import signal
import sys
from collections.abc import Callable, Generator, Iterator
from pathlib import Path
from typing import Any

import hypothesis
import pytest
from hypothesis.internal.conjecture import providers

from relab.bootstrap import Services, build
from relab.settings import load_settings
from relab.storage import Database
from rig.servers import PostgresServer, RedisServer
from support.components.required import summary_of
from support.lab.process import SETTING_NAMES
from support.storage.migrated import create_empty, create_migrated, drop_databases_of_file, migrate

# A deadline per example is an assertion against the clock of a busy machine. The same examples come in every run, so that
# what fails fails again, and not on another machine a month later; `make test-search` looks for others.
# `make test` takes a quarter of the examples, `make test-long` all of them.
# Hypothesis also draws constants that stand in the modules of the project that are loaded, so that the examples would depend on
# which files a process ran before. It has no setting for this; `tests/architecture/test_property_examples.py` checks that this works.
hypothesis.settings.register_profile("relab", deadline=None, derandomize=True, max_examples=25)
hypothesis.settings.register_profile("long", deadline=None, derandomize=True)
hypothesis.settings.register_profile("search", deadline=None, print_blob=True)
hypothesis.settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "relab"))
if hypothesis.settings.default.derandomize:
    providers._get_local_constants = providers.Constants

# Images often forbid to write bytecode. Then each of four test processes would compile a thousand test modules in each run,
# which takes longer than most tests. What the tests themselves import and start writes none, as before.
_writes_no_bytecode = sys.dont_write_bytecode
sys.dont_write_bytecode = False

# A test run in the background of a shell ignores Ctrl-C, and so would the commands that it starts and stops.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

_database_numbers = itertools.count()
_home_numbers = itertools.count()


def pytest_configure(config: pytest.Config) -> None:
    """Have a process of pytest-xdist end when it has done its work, without freeing a million objects one by one first.

    That takes a quarter of the time of its start. Its exit code means nothing: it has sent its results by then.
    """
    if hasattr(config, "workerinput"):
        atexit.register(_end_process, os.getpid())


def _end_process(pid: int) -> None:
    # A child of a test may be a fork of this process, and has an exit code of its own.
    if os.getpid() == pid:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(0)


@pytest.hookimpl(wrapper=True)
def pytest_report_to_serializable(
    report: pytest.TestReport | pytest.CollectReport,
) -> Generator[None, dict[str, Any] | None, dict[str, Any] | None]:
    """Send the report of a test that passed without the names of its folders and marks, half of its size."""
    data = yield
    if data is not None and report.passed:
        data["keywords"] = {}
    return data


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Iterator[None]:
    """Collect no garbage while tests are collected: there is hardly any, and to look for it took 30 % of the time.

    After it, bytecode is written only if the environment allows it.
    """
    gc.disable()
    try:
        return (yield)
    finally:
        gc.enable()
        sys.dont_write_bytecode = _writes_no_bytecode


def pytest_collection_finish() -> None:
    """Exclude the collected tests from garbage collection: most of its time went into visiting them again and again.

    What little garbage the collection left stays too: to find it takes a second.
    """
    gc.freeze()
    gc.set_threshold(10_000, 20, 50)
    # At its end the interpreter frees everything; otherwise some libraries report leaks. Not before: pytest collects five times.
    atexit.register(gc.unfreeze)


@pytest.fixture(scope="session")
def homes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder for the homes of tests that use no temporary folder."""
    return tmp_path_factory.mktemp("homes")


@pytest.fixture(scope="session")
def caches(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The user's cache folder for all processes of this test run: to bundle the drawing libraries takes a second."""
    base = tmp_path_factory.getbasetemp()
    return (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "caches"


@pytest.fixture(autouse=True)
def clean_environment(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, homes: Path, caches: Path
) -> None:
    """Keep the developer's own settings out of tests."""
    for name in [name for name in os.environ if name in SETTING_NAMES or name.startswith("RELAB_")]:
        if name != "RELAB_REQUIRE_ALL":
            monkeypatch.delenv(name)
    # A temporary folder for each of thousands of tests takes longer than most of them.
    uses_folder = "tmp_path" in request.fixturenames
    home, number = (request.getfixturevalue("tmp_path"), "") if uses_folder else (homes, f"-{next(_home_numbers)}")
    monkeypatch.setenv("RELAB_HOME", str(home / f"home{number}"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(caches))


@pytest.fixture(scope="session")
def postgres() -> Iterator[PostgresServer]:
    """A PostgreSQL server for this test process."""
    server = PostgresServer.create(in_memory=True)
    yield server
    server.destroy()


@pytest.fixture(scope="session")
def redis_server() -> Iterator[RedisServer]:
    """A Redis server for this test process."""
    server = RedisServer.create()
    yield server
    server.destroy()


@pytest.fixture(scope="module", autouse=True)
def databases_of_file() -> Iterator[None]:
    """Drop the databases of a file after its tests."""
    yield
    drop_databases_of_file()


@pytest.fixture
def postgres_url(postgres: PostgresServer) -> str:
    """The URL of a new, empty PostgreSQL database."""
    return create_empty(postgres, f"test_{os.getpid()}_{next(_database_numbers)}")


@pytest.fixture
def migrated_postgres_url(postgres: PostgresServer) -> str:
    """The URL of a new PostgreSQL database with the current schema."""
    return create_migrated(postgres, f"test_{os.getpid()}_{next(_database_numbers)}")


@pytest.fixture(params=["sqlite", "postgres"])
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The URL of a new database on each back end: an empty one, unless the test has it migrated by another fixture."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'test.db'}"
    is_migrated = not {"database", "make_services"}.isdisjoint(request.fixturenames)
    url: str = request.getfixturevalue("migrated_postgres_url" if is_migrated else "postgres_url")
    return url


@pytest.fixture
def database(database_url: str) -> Iterator[Database]:
    """A migrated database on each back end."""
    opened = Database.open(database_url)
    migrate(opened)
    yield opened
    opened.close()


@pytest.fixture
def make_services(tmp_path: Path) -> Iterator[Callable[..., Services]]:
    """Return a function that composes services from options, with a migrated database."""
    made: list[Services] = []

    def make(**options: object) -> Services:
        services = build(load_settings(tmp_path / "home", **options))
        migrate(services.database)
        made.append(services)
        return services

    yield make
    for services in made:
        services.close()


@pytest.fixture(params=["sqlite+embedded", "postgres+rq"])
def services(request: pytest.FixtureRequest, make_services: Callable[..., Services], tmp_path: Path) -> Services:
    """Services of both installations that the product promises to be alike."""
    if request.param == "sqlite+embedded":
        return make_services()
    redis_server: RedisServer = request.getfixturevalue("redis_server")
    return make_services(
        database_url=request.getfixturevalue("migrated_postgres_url"),
        redis_url=redis_server.url,
        rq_queue_name=f"rca-{os.getpid()}-{next(_database_numbers)}",
    )


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> Iterator[None]:
    """Say for each missing component, below the list of skipped tests, how many it left out and what installs it."""
    yield
    skipped = terminalreporter.getreports("skipped")
    lines = summary_of(str(report.longrepr[2]) for report in skipped if isinstance(report.longrepr, tuple))
    if lines:
        terminalreporter.section("left out")
        for line in lines:
            terminalreporter.write_line(line)
