"""Tests in several processes that are forked after one collection: the option `--workers N`.

pytest-xdist starts an interpreter for each test process, and each of them imports and collects all tests; so four processes
spend four times what one needs. Here pytest collects once and then forks the test processes, which share what is loaded.
They take whole files, one at a time and in order, so that the fixtures of a file are set up once.
"""

from __future__ import annotations

import atexit
import contextlib
import functools
import itertools
import mmap
import os
import signal
import sys
import threading
import traceback
import warnings
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from multiprocessing import Pipe
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any, TypeVar

import pytest

Value = TypeVar("Value")

_END_TIMEOUT_S = 60.0
"""How long an interrupted test process may take to finish its test and to release its fixtures."""


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the option for several test processes."""
    parser.addoption(
        "--workers", type=int, default=0, metavar="N", help="run the tests in N processes, forked after the collection"
    )


@pytest.hookimpl(tryfirst=True)
def pytest_runtestloop(session: pytest.Session) -> bool | None:
    """Run the tests in several processes if the command line asks for them; otherwise leave them to pytest."""
    options = session.config.option
    if options.workers == 0 or session.testsfailed or options.collectonly or options.usepdb:
        return None
    _Run(session, options.workers).run_tests()
    if session.shouldfail:
        raise session.Failed(session.shouldfail)
    if session.shouldstop:
        raise session.Interrupted(session.shouldstop)
    return True


def once_for_all(function: Callable[[], Value]) -> Callable[[], Value]:
    """Decorate a function without arguments that makes what all test processes can share, such as a server or a template.

    The process that collected the tests calls it at the first use, and its end ends what the function started.
    The result is pickled. The function must be at the top level of a module.
    """

    @functools.cache
    def call() -> Value:
        if _Link.current is None:
            return function()
        value: Value = _Link.current.ask("call", function.__module__, function.__qualname__)
        return value

    return functools.wraps(function)(call)


class _Link:
    """The connection of a test process to the process that collected the tests.

    Attributes:
        current: that of this process; None in the process that collected the tests.
    """

    current: _Link | None = None

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        # Fixtures may ask from any thread.
        self._lock = threading.Lock()

    def send(self, kind: str, *values: object) -> None:
        with self._lock:
            self._connection.send((kind, *values))

    def ask(self, kind: str, *values: object) -> Any:
        """Send a question and return the answer.

        Raises:
            RuntimeError: the other process could not answer.
            EOFError: it has ended.
        """
        with self._lock:
            self._connection.send((kind, *values))
            error, value = self._connection.recv()
        if error is not None:
            raise RuntimeError(error)
        return value


@dataclass
class _Worker:
    """A test process, as the process that collected the tests knows it.

    Attributes:
        number: different for each test process of a run.
        ended: a descriptor that is ready when the process has ended.
        connection: to the process.
        items: the indexes of the tests that it has been given and not reported, in the order in which it runs them.
    """

    number: int
    pid: int
    ended: int
    connection: Connection
    items: deque[int] = field(default_factory=deque)


class _Run:
    """Runs the tests of a session in test processes, and reports their results in this one.

    Args:
        session: with the collected tests.
        count: the number of processes.
    """

    def __init__(self, session: pytest.Session, count: int) -> None:
        self._session = session
        self._config = session.config
        by_file = itertools.groupby(range(len(session.items)), key=lambda index: session.items[index].path)
        self._files = deque(list(indexes) for _, indexes in by_file)
        self._count = min(count, len(self._files))
        self._numbers = itertools.count()
        self._workers: list[_Worker] = []
        self._stop = mmap.mmap(-1, 1)
        # Each process has a folder in it; in a folder of the user's choice each would otherwise delete the others' files.
        self._folder: Path = session.config._tmp_path_factory.getbasetemp()  # type: ignore[attr-defined]

    def run_tests(self) -> None:
        """Run all tests.

        Raises:
            RuntimeError: a test process failed outside its tests.
        """
        try:
            for _ in range(self._count):
                self._start()
            while self._workers:
                self._wait()
        finally:
            self._stop[0] = 1
            self._end_all()

    def _wait(self) -> None:
        sources: dict[Any, _Worker] = {}
        for worker in self._workers:
            sources |= {worker.connection: worker, worker.ended: worker}
        ready = wait(list(sources))
        # What a process has sent is read before its end counts.
        for source in [one for one in ready if isinstance(one, Connection)]:
            try:
                self._receive(sources[source], *source.recv())
            except (EOFError, ConnectionResetError):
                self._end(sources[source])
        for source in ready:
            worker = sources[source]
            if source == worker.ended and worker in self._workers and not worker.connection.poll():
                self._end(worker)

    def _receive(self, worker: _Worker, kind: str, *values: Any) -> None:
        match kind:
            case "next":
                session = self._session
                if session.shouldfail or session.shouldstop:
                    self._files.clear()
                items = self._files.popleft() if self._files else []
                worker.items.extend(items)
                self._answer(worker, items)
            case "reports":
                worker.items.popleft()
                for data in values[0]:
                    report = self._config.hook.pytest_report_from_serializable(config=self._config, data=data)
                    self._config.hook.pytest_runtest_logreport(report=report)
                if self._session.shouldfail or self._session.shouldstop:
                    self._stop[0] = 1
            case "warning":
                text, filename, lineno, when, nodeid, location = values
                message = warnings.WarningMessage(UserWarning(text), UserWarning, filename, lineno)
                self._config.hook.pytest_warning_recorded.call_historic(
                    kwargs={"warning_message": message, "when": when, "nodeid": nodeid, "location": location}
                )
            case "call":
                module, name = values
                try:
                    self._answer(worker, getattr(sys.modules[module], name)())
                except Exception:  # noqa: BLE001 the test that asked for it fails
                    self._answer(worker, None, error=traceback.format_exc())

    def _answer(self, worker: _Worker, value: object, *, error: str | None = None) -> None:
        # A process that has died meanwhile is noticed in the next round.
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            worker.connection.send((error, value))

    def _start(self) -> None:
        number = next(self._numbers)
        ours, theirs = Pipe()
        pid = os.fork()
        if pid == 0:
            ours.close()
            for other in self._workers:
                # Otherwise the other process would not notice the end of this one's parent.
                other.connection.close()
                os.close(other.ended)
            _work_and_exit(self._session, theirs, self._stop, self._folder / f"worker{number}")
        theirs.close()
        self._workers.append(_Worker(number, pid, os.pidfd_open(pid), ours))

    def _end(self, worker: _Worker) -> None:
        """Forget a process that has ended; if it broke off, its test has failed and another process goes on.

        Raises:
            RuntimeError: it failed outside its tests.
        """
        code = self._reap(worker)
        if self._stop[0] and code == 0:
            # It has left out what it had not yet begun.
            return
        if worker.items:
            self._report_crash(worker.items.popleft(), f"the test process ended with exit code {code} during this test")
            if worker.items:
                self._files.appendleft(list(worker.items))
            if self._files:
                self._start()
        elif code != 0:
            raise RuntimeError(f"a test process ended with exit code {code}")

    def _reap(self, worker: _Worker) -> int:
        _, status = os.waitpid(worker.pid, 0)
        self._workers.remove(worker)
        worker.connection.close()
        os.close(worker.ended)
        return os.waitstatus_to_exitcode(status)

    def _report_crash(self, index: int, text: str) -> None:
        item = self._session.items[index]
        report = pytest.TestReport(
            nodeid=item.nodeid, location=item.location, keywords={}, outcome="failed", longrepr=text, when="call"
        )
        self._config.hook.pytest_runtest_logreport(report=report)

    def _end_all(self) -> None:
        """Wait until all processes have finished their tests and released their fixtures, and kill those that do not."""
        for worker in list(self._workers):
            for number in (signal.SIGINT, signal.SIGKILL):
                if wait([worker.ended], _END_TIMEOUT_S):
                    break
                os.kill(worker.pid, number)
            self._reap(worker)


def _work_and_exit(session: pytest.Session, connection: Connection, stop: mmap.mmap, folder: Path) -> None:
    """Run tests in this forked process until there are none left, and end it."""
    code = 1
    try:
        # What the parent registered is for the parent to end.
        atexit._clear()
        _become_worker(session.config, connection, folder)
        _work(session, stop)
        code = 0
    except (KeyboardInterrupt, EOFError):
        # Interrupted, or the parent has ended. Release the fixtures, such as servers.
        session._setupstate.teardown_exact(None)
    except BaseException:  # noqa: BLE001 nothing may return into the parent's code
        traceback.print_exc()
    finally:
        # What an interpreter does at its end, except for deleting all objects.
        with contextlib.suppress(BaseException):
            atexit._run_exitfuncs()
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(code)


def _become_worker(config: pytest.Config, connection: Connection, folder: Path) -> None:
    _Link.current = link = _Link(connection)
    folder.mkdir()
    config._tmp_path_factory._basetemp = folder  # type: ignore[attr-defined]
    # Captured output goes to files, whose positions must not be shared with other processes.
    capture = config.pluginmanager.getplugin("capturemanager")
    assert capture is not None
    capture.stop_global_capturing()
    capture.start_global_capturing()
    capture.suspend_global_capture()
    terminal = config.pluginmanager.unregister(name="terminalreporter")
    # pytest-timeout writes to the terminal.
    config.pluginmanager.register(_Terminal(terminal), "terminalreporter")
    reporter = _Reporter(config, link)
    config.pluginmanager.register(reporter, "parallel-reporter")
    reporter.repeats_history = False


def _work(session: pytest.Session, stop: mmap.mmap) -> None:
    assert _Link.current is not None
    ask = functools.partial(_Link.current.ask, "next")
    upcoming: Sequence[int] = ask()
    while upcoming:
        items, upcoming = upcoming, []
        for position, index in enumerate(items, 1):
            if position == len(items):
                # Fixtures that the next file uses as well are kept.
                upcoming = ask()
            following = items[position] if position < len(items) else next(iter(upcoming), None)
            session.config.hook.pytest_runtest_protocol(
                item=session.items[index], nextitem=None if following is None else session.items[following]
            )
            if stop[0]:
                session._setupstate.teardown_exact(None)
                return


class _Terminal:
    """What plugins need of the terminal in a test process."""

    def __init__(self, terminal: Any) -> None:
        self._tw = terminal._tw


class _Reporter:
    """Sends the reports and warnings of each test to the process that collected the tests."""

    def __init__(self, config: pytest.Config, link: _Link) -> None:
        self._config = config
        self._link = link
        self._reports: list[dict[str, Any] | None] = []
        self.repeats_history = True
        """Whether pytest is repeating the warnings of the collection, as it does for each new plugin."""

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        self._reports.append(self._config.hook.pytest_report_to_serializable(config=self._config, report=report))

    def pytest_runtest_logfinish(self) -> None:
        reports, self._reports = self._reports, []
        self._link.send("reports", reports)

    def pytest_warning_recorded(
        self,
        warning_message: warnings.WarningMessage,
        when: str,
        nodeid: str,
        location: tuple[str, int, str] | None,
    ) -> None:
        if self.repeats_history:
            return
        text = f"{warning_message.category.__name__}: {warning_message.message}"
        self._link.send("warning", text, warning_message.filename, warning_message.lineno, when, nodeid, location)
