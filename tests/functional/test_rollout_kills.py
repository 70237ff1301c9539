"""`lab rollout run` is killed at random requests; the flags are then unchanged, or the next command restores them."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest
import yaml

from relab.flags.models import ServiceFlags
from support.lab.cli import Lab
from support.lab.process import LabProcess, lab_environment
from support.rollouts.plans import CONC_CAP, plan_document
from support.rollouts.small_service import SmallService, small_service

DRAWS = 20
SAMPLE = 4


class Counter:
    """Counts the requests of a service, and kills a process at one of them."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.count = 0
        self.kill_at: int | None = None
        self.pid: int | None = None
        self.killed_with: ServiceFlags | None = None

    def attach(self, service: SmallService) -> None:
        def count() -> None:
            with self.lock:
                self.count += 1
                if self.count == self.kill_at:
                    assert self.pid is not None
                    self.killed_with = service.flags
                    os.kill(self.pid, signal.SIGKILL)

        service.on_request = count


def write_plan(service: SmallService, folder: Path) -> Path:
    path = folder / "plan.yaml"
    # The service reports the metric: on a busy machine, measured latency of so short windows varies too much.
    service.figures = lambda _path: {"p95": 20.0 if service.flags.control.max_concurrency == CONC_CAP else 100.0}
    metric = {"kind": "json", "url": f"{service.url}/figures?arm=$arm", "pointer": "/p95"}
    subject = {"flags": {"kind": "service"}, "metric": metric}
    document = plan_document(service.url, folder, policy="seed", experiment__qps=20, subject=subject)
    path.write_text(yaml.safe_dump(document))
    return path


def requests_of_a_whole_rollout(folder: Path) -> int:
    """Return the number of requests that an uninterrupted rollout sends until it ends with a PASS."""
    counter = Counter()
    with small_service() as service:
        counter.attach(service)
        plan = write_plan(service, folder)
        Lab(folder / "home", {}).run("rollout", "run", "--config", str(plan), "--headless")
    return counter.count


def kill_and_restore(folder: Path, kill_at: int) -> tuple[ServiceFlags | None, bool]:
    """Kill a rollout at its n-th request; return the flags at the kill, and whether they are restored afterwards.

    The flags are None if the rollout was not killed.
    """
    counter = Counter()
    counter.kill_at = kill_at
    with small_service() as service:
        counter.attach(service)
        plan = write_plan(service, folder)
        home = folder / "home"
        process = LabProcess("rollout", "run", "--config", str(plan), "--headless", home=home)
        with counter.lock:
            process.start(wait=False)
            counter.pid = process.pid
        code = process.wait(60)
        process.destroy()
        if code != -signal.SIGKILL:
            return None, False
        Lab(home, {}).run("rollout", "list")
        return counter.killed_with, service.flags == ServiceFlags()


def draws(number: int, total: int) -> list[int]:
    """Return one random request number from each of `number` equal parts of a rollout, the same in every run."""
    source = random.Random(20261123)
    size = total / number
    return [min(int(part * size + source.random() * size) + 1, total) for part in range(number)]


def test_flags_are_restored_after_a_kill(tmp_path: Path) -> None:
    (tmp_path / "home").mkdir()
    total = requests_of_a_whole_rollout(tmp_path)
    for number, kill_at in enumerate(draws(SAMPLE, total - 2)):
        folder = tmp_path / str(number)
        (folder / "home").mkdir(parents=True)

        killed_with, is_restored = kill_and_restore(folder, kill_at)

        assert killed_with is not None, kill_at
        assert is_restored, kill_at


@pytest.mark.full
@pytest.mark.timeout(600)
def test_flags_are_restored_after_each_of_twenty_kills(tmp_path: Path) -> None:
    (tmp_path / "home").mkdir()
    total = requests_of_a_whole_rollout(tmp_path)
    restored, changed = 0, 0
    for number, kill_at in enumerate(draws(DRAWS, total - 2)):
        folder = tmp_path / str(number)
        (folder / "home").mkdir(parents=True)
        killed_with, is_restored = kill_and_restore(folder, kill_at)
        assert killed_with is not None, kill_at
        restored += is_restored
        changed += killed_with != ServiceFlags()
    print(f"flags as before after kill -9: {restored} of {DRAWS} ({changed} with changed flags), of {total} requests")
    assert restored == DRAWS
    assert changed > 0


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGHUP], ids=["ctrl-c", "closed terminal"])
def test_signal_restores_the_flags(tmp_path: Path, number: signal.Signals) -> None:
    with small_service() as service:
        started = threading.Event()
        service.on_work = lambda: started.set() if service.flags != ServiceFlags() else None
        plan = write_plan(service, tmp_path)
        process = LabProcess("rollout", "run", "--config", str(plan), home=tmp_path / "home")
        process.start(wait=False)
        try:
            assert started.wait(60), process.log()
            assert process.stop(number) == 130
        finally:
            process.destroy()

        assert service.flags == ServiceFlags()


@pytest.mark.full
def test_terminal_that_is_closed_restores_the_flags(tmp_path: Path) -> None:
    with small_service() as service:
        started = threading.Event()
        service.on_work = lambda: started.set() if service.flags != ServiceFlags() else None
        plan = write_plan(service, tmp_path)
        master, terminal = os.openpty()
        # A session without a terminal gets the first one that it opens.
        launch = "import os, sys; os.open(os.ttyname(0), os.O_RDWR); os.execv(sys.executable, [sys.executable, *sys.argv[1:]])"
        process = subprocess.Popen(
            [sys.executable, "-c", launch, "-m", "relab", "rollout", "run", "--config", str(plan)],
            stdin=terminal, stdout=terminal, stderr=terminal, start_new_session=True, env=lab_environment(tmp_path / "home"),
        )  # fmt: skip
        try:
            os.close(terminal)
            assert started.wait(60)
            os.close(master)
            assert process.wait(60) == 130
        finally:
            process.kill()
            process.wait()

        assert service.flags == ServiceFlags()
