"""Testbeds end without leftovers: by command, by SIGKILL, and after a failed start."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psutil
import pytest

from relab.core.file_locks import file_lock
from relab.testbed import service
from relab.testbed.errors import NotRunningError, StartError, SupervisorBusyError, WrongNameError
from relab.testbed.layout import Layout
from rig.waiting import wait_until
from support.lab.cli import Lab
from support.lab.process import lab_environment
from support.testbed.beds import (
    STAND_IN,
    Bed,
    bed_home,
    free_base,
    living,
    processes_of,
    shared_memory,
    shared_memory_of,
)

pytestmark = pytest.mark.full


@pytest.fixture(scope="module")
def home() -> Iterator[Path]:
    """A home for all tests of this file, whose database template is made once."""
    with bed_home() as made:
        yield made


@pytest.mark.parametrize("victim", ["supervisor", "guard"])
def test_killing_the_supervisor_or_its_guard_ends_every_process(home: Path, victim: str) -> None:
    bed = Bed.start(home)
    busy = bed.connect()
    busy.pgconn.send_query(b"SELECT count(*) FROM generate_series(1, 100000000000)")
    everything = processes_of(bed.layout)
    # The guard, the supervisor, five components, and the processes of PostgreSQL, among them the busy session.
    assert len(everything) >= 12
    segment = shared_memory_of(bed.layout)
    pid = bed.status().state.pid if victim == "supervisor" else everything[0].pid

    os.kill(pid, signal.SIGKILL)

    # The kernel frees the lock a moment after `living` stops counting its last holder, so wait for both.
    wait_until(lambda: not living(everything), what="the end of every process")
    wait_until(lambda: not service.is_running(bed.layout), what="a free lock")
    busy.close()
    if victim == "supervisor":
        assert segment not in shared_memory()
    # Files and, if the guard was killed, shared memory remain; the next start removes them.
    again = Bed.start(home)
    assert segment not in shared_memory()
    assert again.status().state.phase == "ready"
    service.down(home, "t")


def test_down_returns_after_everything_has_ended(home: Path) -> None:
    bed = Bed.start(home)
    everything = processes_of(bed.layout)
    segment = shared_memory_of(bed.layout)

    service.down(home, "t")

    assert living(everything) == []
    assert segment not in shared_memory()
    assert not bed.layout.control_socket.exists()
    assert not bed.layout.state.exists()
    with pytest.raises(NotRunningError):
        service.down(home, "t")


def test_down_ends_a_suspended_supervisor(home: Path) -> None:
    bed = Bed.start(home)
    everything = processes_of(bed.layout)
    os.kill(bed.status().state.pid, signal.SIGSTOP)

    service.down(home, "t")

    assert living(everything) == []


def test_two_testbeds_run_side_by_side(home: Path) -> None:
    one, two = Bed.start(home, "one"), Bed.start(home, "two")
    with one.connect() as connection:
        connection.execute("DELETE FROM orders")

    with two.connect() as connection:
        assert connection.execute("SELECT count(*) > 0 FROM orders").fetchone() == (True,)
    assert not set(one.status().state.ports.values()) & set(two.status().state.ports.values())
    service.down(home, "one")
    assert {item.state for item in two.status().components} == {"running"}
    with pytest.raises(SupervisorBusyError):
        service.up(home, "two")
    service.down(home, "two")


def test_port_in_use_is_reported_and_no_process_is_left(home: Path) -> None:
    base = free_base()
    with socket.create_server(("127.0.0.1", base)), pytest.raises(StartError, match=f"Port {base}"):
        Bed.start(home, "late", port_base=base)

    assert not service.is_running(Layout.of(home, "late"))


def test_component_that_fails_to_start_is_reported_with_its_log(home: Path) -> None:
    broken = STAND_IN.model_copy(update={"command": ["/bin/sh", "-c", "echo no such moon; exit 7"], "count": 1})

    with pytest.raises(StartError) as caught:
        Bed.start(home, "broken", rows=(broken,), start_within_s=10)

    assert caught.value.component == "worker"
    assert "no such moon" in caught.value.log_tail
    assert "exit codes so far: [7" in caught.value.message
    folder = str(Layout.of(home, "broken").root)
    assert [line for line in living(list(psutil.process_iter())) if folder in line] == []
    assert not service.is_running(Layout.of(home, "broken"))


@pytest.mark.parametrize(
    ("command", "number"),
    [
        (["up"], signal.SIGINT),
        (["up"], signal.SIGTERM),
        (["run", "pool-leak", "--up"], signal.SIGINT),
        (["run", "pool-leak", "--up"], signal.SIGTERM),
    ],
    ids=lambda given: given.name if isinstance(given, signal.Signals) else given[0],
)
def test_interrupted_start_ends_every_process_and_says_so(
    home: Path, command: list[str], number: signal.Signals
) -> None:
    layout = Layout.of(home, f"halted-{command[0]}-{number}")
    options = ["--name", layout.name, "--port-base", str(free_base())]
    command = [sys.executable, "-m", "relab", "testbed", *command, *options]
    with subprocess.Popen(command, env=lab_environment(home), stderr=subprocess.PIPE, text=True) as starting:
        # The guard writes its pid before it starts the supervisor.
        wait_until(lambda: layout.lock.exists() and layout.lock.read_text().endswith("\n"), what="a running guard")
        everything = processes_of(layout)
        starting.send_signal(number)
        _, said = starting.communicate()

    assert starting.returncode == 130
    assert said == f"lab: interrupted. The testbed {layout.name} is stopped.\n"
    assert living(everything) == []
    assert not service.is_running(layout)


@pytest.mark.parametrize("is_suspended", [False, True])
def test_down_ends_a_start_that_waits_for_the_template_of_another_one(is_suspended: bool) -> None:
    with bed_home() as home, ThreadPoolExecutor(1) as starts:
        (home / "cache").unlink()
        layout = Layout.of(home, "waiting")
        layout.templates.mkdir(parents=True)
        lock = layout.templates / "lock"
        with file_lock(lock):
            start = starts.submit(service.up, home, "waiting", port_base=free_base())
            wait_until(layout.control_socket.exists, what="a supervisor that starts")
            everything = processes_of(layout)
            opened = everything[1].open_files
            wait_until(
                lambda: str(lock) in [file.path for file in opened()], what="a supervisor that waits for the lock"
            )
            if is_suspended:
                everything[1].suspend()

            service.down(home, "waiting")

            assert living(everything) == []
        with pytest.raises(StartError):
            start.result()


def test_invalid_names_and_ports_are_rejected_before_a_file_is_created(tmp_path: Path) -> None:
    for name in ("", "../x", "A", "a b", "x" * 33):
        with pytest.raises(WrongNameError):
            service.up(tmp_path, name)
    with pytest.raises(WrongNameError, match="65533"):
        service.up(tmp_path, "a", port_base=65_534)
    with pytest.raises(WrongNameError, match="shorter"):
        service.up(tmp_path / ("long" * 30), "a")
    assert list(tmp_path.iterdir()) == []


def test_commands_show_and_reset_a_running_testbed(home: Path) -> None:
    lab = Lab(home, {})
    bed = Bed.start(home, "shown")

    status = lab.json("testbed", "status", "--name", "shown")

    assert status["state"]["addresses"]["target"] == bed.status().state.addresses.target
    assert {item["state"] for item in status["components"]} == {"running"}
    assert "worker-2" in lab.run("testbed", "status", "--name", "shown").out
    assert lab.json("testbed", "reset", "--name", "shown")["took_s"] > 0
    assert lab.json("testbed", "down", "--name", "shown")["name"] == "shown"
    assert lab.run("testbed", "status", "--name", "shown", "--json", code=69).json["error"]["code"] == "unavailable"
    assert lab.run("testbed", "up", "--name", "No", code=64).err.startswith("lab: 'No'")
