"""Start, inspect, reset and stop testbeds. The command line and the scoring of responders use this module."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

import psutil

from relab.core.errors import RelabError
from relab.testbed.actions.tokens import Tokens
from relab.testbed.errors import NotAnsweringError, NotRunningError, StartError, SupervisorBusyError
from relab.testbed.layout import Layout, PublicPorts, read_state, write_json
from relab.testbed.models import TestbedState, TestbedStatus
from relab.testbed.supervisor import guard
from relab.testbed.supervisor.plan import OPEN_ROWS, STANDARD_ROWS, Ports, ProgramRow, SupervisorPlan
from relab.testbed.supervisor.process import tail
from relab.testbed.supervisor.programs import check_platform

_RESPONSE_TIMEOUT_S: Final = 60.0
_LOCK_TIMEOUT_S: Final = 1.0
"""A process that only checks whether the testbed runs holds the lock for a moment."""
_STOP_TIMEOUT_S: Final = 10.0
_MORE_S: Final = 10.0
_POLL_INTERVAL_S: Final = 0.01


def names(home: Path) -> list[str]:
    """Return the names of all testbeds that have a folder in relab's home folder `home`, running or not."""
    folder = home / "testbeds"
    return sorted(path.name for path in folder.iterdir() if path.is_dir()) if folder.is_dir() else []


def up(
    home: Path,
    name: str,
    *,
    port_base: int | None = None,
    rows: Sequence[ProgramRow] | None = None,
    open_actions: bool = False,
    **options: Any,
) -> TestbedStatus:
    """Start a testbed and return its status when all components are ready.

    Args:
        home: relab's home folder.
        name: the name of the testbed.
        port_base: the first of the three public ports; None for the default ports.
        rows: the programs to run beside PostgreSQL, Redis and the links (network proxies); None for the usual programs.
        open_actions: whether local programs may request actions without a token. Ignored if `rows` is given.
        options: further fields of `SupervisorPlan`, by name.

    Raises:
        WrongNameError: the name or the ports are invalid.
        MissingProgramError: this operating system cannot run a testbed.
        SupervisorBusyError: a testbed with this name is already running, or another caller is starting it.
        StartError: a component cannot be started, or was not ready in time; the whole testbed has been stopped.
        KeyboardInterrupt: the start was interrupted, for example by Ctrl-C. If the error has a message, the whole
            testbed has been stopped. After a second interruption it has none, and processes may still be ending.
    """
    check_platform()
    ports = PublicPorts.at(port_base)
    layout = Layout.of(home, name)
    if is_running(layout):
        raise _already_running(layout)
    rows = rows if rows is not None else OPEN_ROWS if open_actions else STANDARD_ROWS
    plan = SupervisorPlan(home=layout.home, name=name, ports=Ports(**asdict(ports)), rows=list(rows), **options)
    for folder in (layout.root, layout.logs):
        folder.mkdir(parents=True, exist_ok=True)
    layout.private.mkdir(mode=0o700, exist_ok=True)
    return _start(layout, plan)


def make_token(home: Path, name: str, label: str, scopes: Sequence[str], *, replace: bool = False) -> str:
    """Create a token for the action server of a testbed, running or not, and return it; it cannot be read again.

    Args:
        home: relab's home folder.
        name: the name of the testbed.
        label: the token's name in the audit log of actions.
        scopes: the scopes of the token: `read`, `act` (all actions), `act:CLASS` (the actions of one class, such as
            `act:restart`) or `admin`.
        replace: whether an older token with this label becomes invalid.

    Raises:
        WrongNameError: the name is not valid for a testbed.
        NotRunningError: no testbed has this name.
        TokenExistsError: a token with this label exists, and `replace` is False.
        WrongScopeError: a scope does not exist, or `scopes` is empty.
        WrongTokenNameError: the label is empty, too long or not printable.
    """
    layout = Layout.of(home, name)
    if not layout.root.is_dir():
        raise NotRunningError(f"There is no testbed {name}.", remedy=f"lab testbed up --name {name}")
    return Tokens(layout.tokens).make(label, scopes, replace=replace)


def status(home: Path, name: str, *, hidden: bool = False) -> TestbedStatus:
    """Return the status of a testbed.

    Args:
        home: relab's home folder.
        name: the name of the testbed.
        hidden: whether to include the components and addresses that a responder must not see.

    Raises:
        WrongNameError: the name is not valid for a testbed.
        NotRunningError: the testbed is not running.
        NotAnsweringError: the testbed's supervisor does not answer.
    """
    layout = Layout.of(home, name)
    return TestbedStatus.model_validate(ask(layout, "GET", f"/status?hidden={str(hidden).lower()}"))


def reset(home: Path, name: str) -> TestbedStatus:
    """Restore a testbed to its initial state, and return its status when it is ready.

    Raises:
        WrongNameError: the name is not valid for a testbed.
        NotRunningError: the testbed is not running.
        NotAnsweringError: the testbed's supervisor does not answer.
        ConflictError: the testbed is being started, reset or stopped.
        StartError: a component does not become ready again; the supervisor continues to run.
    """
    ask(Layout.of(home, name), "POST", "/reset")
    return status(home, name, hidden=True)


def down(home: Path, name: str) -> None:
    """Stop a testbed; return when none of its processes is left.

    Raises:
        WrongNameError: the name is not valid for a testbed.
        NotRunningError: the testbed is not running.
        NotAnsweringError: a process of the testbed does not end even after SIGKILL.
    """
    layout = Layout.of(home, name)
    if not is_running(layout):
        raise NotRunningError(f"The testbed {name} is not running.")
    # If the supervisor does not answer, `_wait_gone` ends it by force.
    with contextlib.suppress(RelabError):
        ask(layout, "POST", "/shutdown", within_s=2.0)
    _wait_gone(layout)


def is_running(layout: Layout) -> bool:
    """Return whether any process of this testbed is alive."""
    try:
        # The guard holds the lock file until the last process of the testbed has ended.
        descriptor = os.open(layout.lock, os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    try:
        # A shared lock, because another caller may check at the same moment.
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    else:
        return False
    finally:
        os.close(descriptor)


def ask(
    layout: Layout, method: str, path: str, body: Any = None, *, within_s: float = _RESPONSE_TIMEOUT_S
) -> dict[str, Any]:
    """Send one request to a testbed's supervisor and return its JSON answer.

    Args:
        layout: the folders of the testbed.
        method: the HTTP method.
        path: the path of the route, with its query.
        body: JSON to send; None to send no body.
        within_s: time limit for the answer.

    Raises:
        RelabError: the same errors as `SupervisorClient.ask`.
    """
    # The command line shows its help without the HTTP client.
    from relab.testbed.supervisor_client import SupervisorClient  # noqa: PLC0415

    with SupervisorClient(layout.control_socket, within_s=within_s) as client:
        return client.ask(method, path, body)


def _start(layout: Layout, plan: SupervisorPlan) -> TestbedStatus:
    """Write the testbed's configuration, start its guard process, and return the status when all components are ready.

    The guard process starts the supervisor.

    Raises:
        SupervisorBusyError: another process holds the lock of the testbed; nothing was changed.
        StartError: a component cannot be started, or was not ready in time; the whole testbed has been stopped.
        KeyboardInterrupt: the start was interrupted, for example by Ctrl-C, and the whole testbed has been stopped.
            After a second interruption, processes may still be ending.
    """
    reading, writing = os.pipe()
    try:
        # Only the holder of the lock may replace the files of the testbed.
        lock = _acquire_lock(layout)
        try:
            try:
                layout.state.unlink(missing_ok=True)
                write_json(layout.plan, plan.model_dump(mode="json"))
                _start_guard(layout, plan, lock, writing)
            finally:
                # The guard has inherited the lock and keeps it.
                os.close(lock)
            os.close(writing)
            writing = -1
            report = _read_line(reading, plan.template_within_s + plan.start_within_s + _MORE_S)
            if report.get("phase") != "ready":
                _wait_gone(layout)
                raise _failure(layout, report)
            return status(layout.home, layout.name, hidden=True)
        except KeyboardInterrupt:
            # As after a failed start. If a second interruption comes meanwhile, the guard still ends the testbed.
            _signal_guard(layout, signal.SIGTERM)
            _wait_gone(layout)
            raise KeyboardInterrupt(f"The testbed {layout.name} is stopped.") from None
    finally:
        os.close(reading)
        if writing >= 0:
            os.close(writing)


def _acquire_lock(layout: Layout) -> int:
    """Acquire the lock of the testbed, and return the descriptor that holds it.

    Raises:
        SupervisorBusyError: another process holds the lock.
    """
    descriptor = os.open(layout.lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    deadline = time.monotonic() + _LOCK_TIMEOUT_S
    try:
        while True:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                if time.monotonic() > deadline:
                    raise _already_running(layout) from None
                time.sleep(_POLL_INTERVAL_S)
            else:
                # Remove the pid of an earlier guard; another process may have it by now.
                os.ftruncate(descriptor, 0)
                return descriptor
    except BaseException:
        os.close(descriptor)
        raise


def _start_guard(layout: Layout, plan: SupervisorPlan, lock: int, writing: int) -> None:
    command = [
        sys.executable, "-I", "-S", guard.__file__, str(lock), str(writing), str(layout.groups),
        str(layout.postgres / "postmaster.pid"), str(layout.data),
        sys.executable, "-m", "relab.testbed.supervisor", str(layout.plan),
    ]  # fmt: skip
    with layout.supervisor_log.open("wb") as log:
        # The guard detaches from this process at once, so this call waits only for the fork.
        subprocess.run(  # noqa: S603 our own interpreter and program
            command,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            cwd=layout.root,
            env=_environment(plan),
            pass_fds=[lock, writing],
            check=True,
        )


def _already_running(layout: Layout) -> SupervisorBusyError:
    state = _find_state(layout)
    where = f" at {state.addresses.target}" if state else ""
    return SupervisorBusyError(
        f"The testbed {layout.name} is already running{where}.", remedy=f"lab testbed down --name {layout.name}"
    )


def _environment(plan: SupervisorPlan) -> dict[str, str]:
    paths = os.pathsep.join(map(str, plan.python_path))
    return {
        "PATH": os.environ.get("PATH", os.defpath),
        "LANG": "C.UTF-8",
        "TZ": "UTC",
        "HOME": os.environ.get("HOME", "/"),
        **({"TMPDIR": os.environ["TMPDIR"]} if "TMPDIR" in os.environ else {}),
        **({"PYTHONPATH": paths} if paths else {}),
    }


def _read_line(reading: int, within_s: float) -> dict[str, Any]:
    """Read one line from a pipe and return the JSON object in it.

    Return {} if the pipe is closed, or `within_s` seconds pass, before the line is complete.
    """
    deadline = time.monotonic() + within_s
    text = b""
    while not text.endswith(b"\n"):
        ready, _, _ = select.select([reading], [], [], max(0.0, deadline - time.monotonic()))
        piece = os.read(reading, 65_536) if ready else b""
        if not piece:
            return {}
        text += piece
    found: dict[str, Any] = json.loads(text)
    return found


def _failure(layout: Layout, report: dict[str, Any]) -> RelabError:
    if report:
        return StartError(
            report["message"],
            component=report.get("component"),
            log_tail=report.get("log_tail", ""),
            remedy=report.get("remedy"),
        )
    return StartError(
        "The supervisor ended without a report.", component="supervisor", log_tail=tail(layout.supervisor_log)
    )


def _wait_gone(layout: Layout) -> None:
    """Wait until no process of the testbed is left.

    After 5 s, send SIGTERM to the guard, the supervisor's parent process. After 5 s more, send SIGKILL to the
    supervisor.

    Raises:
        NotAnsweringError: a process is left 5 s after the SIGKILL.
    """
    for number in (None, signal.SIGTERM, signal.SIGKILL):
        if number is signal.SIGTERM:
            _signal_guard(layout, number)
        elif number is signal.SIGKILL:
            _kill_supervisor(layout)
        deadline = time.monotonic() + _STOP_TIMEOUT_S / 2
        while time.monotonic() < deadline:
            if not is_running(layout):
                layout.state.unlink(missing_ok=True)
                return
            time.sleep(_POLL_INTERVAL_S)
    raise NotAnsweringError(f"The testbed {layout.name} does not stop.", remedy=f"See {layout.supervisor_log}.")


def _signal_guard(layout: Layout, number: signal.Signals) -> None:
    with contextlib.suppress(OSError, ValueError):
        os.kill(int(layout.lock.read_text(encoding="ascii")), number)


def _kill_supervisor(layout: Layout) -> None:
    """Kill the testbed's supervisor. It is the only child of the guard, the process that starts it.

    The supervisor's children then become children of the guard, and the guard ends them.
    """
    # Not the pid in the state: during a start there is no state.
    with contextlib.suppress(OSError, ValueError, psutil.NoSuchProcess):
        for child in psutil.Process(int(layout.lock.read_text(encoding="ascii"))).children():
            child.kill()


def _find_state(layout: Layout) -> TestbedState | None:
    try:
        return read_state(layout)
    except NotRunningError:
        return None
