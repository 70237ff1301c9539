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
import structlog
from hypothesis.internal.conjecture import providers

from relab.bootstrap import Services, build
from relab.settings import load_settings
from relab.storage import Database
from rig.servers import PostgresServer, RedisServer
from support.components.required import summary_of
from support.lab import preloaded
from support.lab.process import SETTING_NAMES
from support.lab.xdist_messages import send_only_used
from support.lab.xdist_processes import fork_processes
from support.storage.compiled import shared_compilation
from support.storage.migrated import create_empty, create_migrated, drop_databases_of_file, migrate

# A deadline per example would measure the load of the machine. Examples are the same in every run, so that a failure
# repeats at once and does not first appear on another machine a month later; `make test-search` draws new examples.
# `make test` takes a quarter of the examples, `make test-long` all of them.
# Hypothesis also draws constants of the project's loaded modules, so examples would depend on the files that a process
# ran earlier. It has no setting for this, so a private function is replaced below;
# `tests/architecture/test_property_examples.py` checks the replacement.
hypothesis.settings.register_profile("relab", deadline=None, derandomize=True, max_examples=25)
hypothesis.settings.register_profile("long", deadline=None, derandomize=True)
hypothesis.settings.register_profile("search", deadline=None, print_blob=True)
hypothesis.settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "relab"))
if hypothesis.settings.default.derandomize:
    providers._get_local_constants = providers.Constants

# Container images often forbid writing bytecode. Then each of four test processes would compile a thousand test modules
# in each run, which takes longer than most tests. Modules that tests import and processes that they start write none.
_writes_no_bytecode = sys.dont_write_bytecode
sys.dont_write_bytecode = False

# A test run in the background of a shell ignores Ctrl-C, and its child processes would inherit that.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# Rich needs more than a second of processor time to draw one traceback with its local variables.
structlog.dev.ConsoleRenderer.get_active().exception_formatter = structlog.dev.plain_traceback

_database_numbers = itertools.count()
_home_numbers = itertools.count()
_FORKING_PROCESS = pytest.StashKey[str]()


def pytest_configure(config: pytest.Config) -> None:
    """Let a process of pytest-xdist send only used messages, and exit without freeing a million objects.

    Freeing takes a quarter of the time of its start. The exit code has no meaning: the process has sent its results.
    """
    if hasattr(config, "workerinput"):
        atexit.register(_end_process, os.getpid())
        preloaded.share(config.workerinput["forking_process"])
        send_only_used(config)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_setupnodes(config: pytest.Config, specs: list[Any]) -> None:
    """Load the libraries once for all processes of pytest-xdist and what they start."""
    config.stash[_FORKING_PROCESS] = fork_processes(specs)


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node: Any) -> None:
    """Name the process that forks to a process of pytest-xdist."""
    node.workerinput["forking_process"] = node.config.stash[_FORKING_PROCESS]


def _end_process(pid: int) -> None:
    # A child of a test may be a fork of this process and must keep its own exit code.
    if os.getpid() == pid:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(0)


@pytest.hookimpl(wrapper=True)
def pytest_report_to_serializable(
    report: pytest.TestReport | pytest.CollectReport,
) -> Generator[None, dict[str, Any] | None, dict[str, Any] | None]:
    """Send the report of a passed test without the names of its folders and marks, which are half of its size."""
    data = yield
    if data is not None and report.passed:
        data["keywords"] = {}
    return data


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Iterator[None]:
    """Disable garbage collection while pytest collects tests: it took 30 % of the time and found almost nothing.

    Afterwards bytecode is written only if the environment allows it.
    """
    gc.disable()
    try:
        return (yield)
    finally:
        gc.enable()
        sys.dont_write_bytecode = _writes_no_bytecode


def pytest_collection_finish() -> None:
    """Exclude the collected tests from garbage collection, which spent most of its time on visiting them.

    The little garbage of pytest's collection stays in memory, because finding it takes a second.
    """
    gc.freeze()
    gc.set_threshold(10_000, 20, 50)
    # Unfreeze only at exit, because pytest runs garbage collection five times; without it some libraries report leaks.
    atexit.register(gc.unfreeze)


@pytest.fixture(scope="session")
def homes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder that holds the home folders of tests without a temporary folder."""
    return tmp_path_factory.mktemp("homes")


@pytest.fixture(scope="session")
def caches(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The user's cache folder, shared by all processes of a test run: bundling the drawing libraries takes a second."""
    base = tmp_path_factory.getbasetemp()
    return (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "caches"


@pytest.fixture(autouse=True)
def clean_environment(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, homes: Path, caches: Path
) -> None:
    """Remove the developer's own settings from the environment of each test."""
    for name in [name for name in os.environ if name in SETTING_NAMES or name.startswith("RELAB_")]:
        if name != "RELAB_REQUIRE_ALL":
            monkeypatch.delenv(name)
    # Creating a temporary folder for each of thousands of tests takes longer than most of the tests.
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


@pytest.fixture(scope="session", autouse=True)
def compiled_statements() -> Iterator[None]:
    """Let all databases of this process share their compiled statements."""
    with shared_compilation():
        yield


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
    """Services of each kind of installation, which must behave alike."""
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
    """List each missing component below the skipped tests, with its number of tests and its install command."""
    yield
    skipped = terminalreporter.getreports("skipped")
    lines = summary_of(str(report.longrepr[2]) for report in skipped if isinstance(report.longrepr, tuple))
    if lines:
        terminalreporter.section("left out")
        for line in lines:
            terminalreporter.write_line(line)
