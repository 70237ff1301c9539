"""Real processes of the supervisor: environment, limits, end of all descendants, and restarts of components."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest

from relab.core.clock import SystemClock
from relab.testbed.errors import NotAnsweringError, StartError
from relab.testbed.supervisor import postgres, process
from relab.testbed.supervisor.component import Component, ComponentSpec, wait_all_ready
from relab.testbed.supervisor.process import Process, ProcessSpec, descendants, run_to_end, tail
from relab.testbed.supervisor.programs import PostgresPrograms

TIMEOUT_S = 20.0


@dataclass(frozen=True)
class FileThere:
    path: Path

    async def ready(self, pid: int) -> bool:  # noqa: ARG002 the protocol's parameter
        return self.path.exists()


def order(folder: Path, script: str, **fields: object) -> ProcessSpec:
    return ProcessSpec(["/bin/sh", "-c", script], {"PATH": "/usr/bin:/bin"}, folder, folder / "log", **fields)  # type: ignore[arg-type]


def component(folder: Path, script: str) -> Component:
    spec = ComponentSpec(
        name="it", group="all", stage=0, command=["/bin/sh", "-c", script], environment={"PATH": "/usr/bin:/bin"},
        cwd=folder, log=folder / "log", probe=FileThere(folder / "ready"),
    )  # fmt: skip
    return Component(spec, groups=lambda _: (), clock=SystemClock())


async def until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(TIMEOUT_S):
        while not condition():  # noqa: ASYNC110 the condition has no event to wait for
            await asyncio.sleep(0.005)


def run(work: Callable[[], Awaitable[None]]) -> None:
    async def main() -> None:
        await work()

    asyncio.run(main())


def test_a_program_gets_its_environment_its_log_and_its_limits_and_nothing_else(tmp_path: Path) -> None:
    shown = "env; ulimit -S -n; cat /proc/self/fd/25; ls -l /proc/self/fd | grep -c socket"
    (tmp_path / "given").write_text("by descriptor\n")

    async def work() -> None:
        await run_to_end(
            order(tmp_path, shown, rlimits={"nofile": 99}, opened={25: tmp_path / "given"}), within_s=TIMEOUT_S
        )

    run(work)
    lines = (tmp_path / "log").read_text().splitlines()
    assert {line for line in lines if "=" in line} == {"PATH=/usr/bin:/bin", f"PWD={tmp_path}"}
    assert lines[-3:] == ["99", "by descriptor", "0"]


def test_missing_program_is_reported_in_the_log(tmp_path: Path) -> None:
    async def work() -> None:
        missing = ProcessSpec(["/no/such/program"], {}, tmp_path, tmp_path / "log")
        assert await run_to_end(missing, within_s=TIMEOUT_S) == 127

    run(work)
    assert "cannot be started" in tail(tmp_path / "log")


def test_descendants_end_with_their_process(tmp_path: Path) -> None:
    async def work() -> None:
        process = Process(order(tmp_path, "sleep 1000 & (sleep 1000 & sleep 1000) & wait"))
        await until(lambda: len(descendants(process.pid)) >= 3)
        everything = [process.pid, *descendants(process.pid)]
        assert await process.end(None, 0) == -signal.SIGKILL
        await until(lambda: not any(map(is_alive, everything)))

    run(work)


def is_alive(pid: int) -> bool:
    try:
        return bool(psutil.Process(pid).status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


def test_process_that_ignores_signals_is_killed_and_stopped_process_is_resumed_first(tmp_path: Path) -> None:
    async def work() -> None:
        deaf = Process(order(tmp_path, "trap '' TERM; touch deaf; while :; do sleep 0.01; done"))
        await until((tmp_path / "deaf").exists)
        assert await deaf.end(signal.SIGTERM, 0.1) == -signal.SIGKILL
        still = Process(order(tmp_path, "trap 'exit 5' TERM; touch still; while :; do sleep 0.01; done"))
        await until((tmp_path / "still").exists)
        still.send(signal.SIGSTOP)
        await until(lambda: psutil.Process(still.pid).status() == psutil.STATUS_STOPPED)
        assert await still.end(signal.SIGTERM, TIMEOUT_S) == 5

    run(work)


def test_a_program_that_takes_too_long_is_killed(tmp_path: Path) -> None:
    async def work() -> None:
        with pytest.raises(NotAnsweringError, match=r"0\.1 s"):
            await run_to_end(order(tmp_path, "exec sleep 1000"), within_s=0.1)

    run(work)


def test_limits_of_a_running_process_change(tmp_path: Path) -> None:
    async def work() -> None:
        process = Process(order(tmp_path, "touch there; exec sleep 1000"))
        await until((tmp_path / "there").exists)
        process.limit({"nofile": 33})
        assert psutil.Process(process.pid).rlimit(psutil.RLIMIT_NOFILE)[0] == 33
        await process.end(None, 0)

    run(work)


def test_exited_component_is_restarted_until_it_is_stopped(tmp_path: Path) -> None:
    async def work() -> None:
        made = component(tmp_path, "echo x >> starts; exit 3")
        assert made.status().state == "new"
        await made.start()
        await until(lambda: len(made.status().exits) >= 3)
        await made.stop()
        found = made.status()
        assert found.state == "stopped"
        assert set(found.exits) == {3}
        assert found.starts == len((tmp_path / "starts").read_text().split())
        assert found.restarts == found.starts - 1

    run(work)


def test_component_is_ready_when_its_probe_succeeds(tmp_path: Path) -> None:
    async def work() -> None:
        made = component(tmp_path, "exec sleep 1000")
        await made.start()
        await until(lambda: made.status().pid)
        with pytest.raises(NotAnsweringError, match=r"^it$"):
            await wait_all_ready([made], asyncio.get_running_loop().time() + 0.1)
        assert made.status().state == "starting"
        (tmp_path / "ready").touch()
        await wait_all_ready([made], asyncio.get_running_loop().time() + TIMEOUT_S)
        first = made.status()
        assert first.state == "running"
        assert first.ready_at is not None
        await made.restart(gently=False)
        await made.wait_ready()
        assert made.status().pid != first.pid
        assert made.status().restarts == 0, "an order is no accident"
        await made.stop()
        assert not is_alive(first.pid or 0)

    run(work)


def test_repeated_start_starts_the_component_once(tmp_path: Path) -> None:
    async def work() -> None:
        made = component(tmp_path, "exec sleep 1000")
        await asyncio.gather(made.start(), made.start())
        await until(lambda: made.status().pid)
        await made.start()
        assert made.status().starts == 1
        await made.stop()

    run(work)


def test_start_after_a_stop_that_took_too_long_takes_effect(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    item = component(tmp_path, "touch ready; exec sleep 60")

    async def work() -> None:
        await item.start()
        await until(lambda: item.is_ready)
        with monkeypatch.context() as slow:
            # As on a machine whose kernel needs longer to end a process.
            slow.setattr(process, "_AFTER_KILL_S", 0.0)
            with pytest.raises(NotAnsweringError):
                await item.stop(gently=False)

        await item.start()

        assert not item.is_ready, "the killed process is not the started one"
        await until(lambda: item.status().starts == 2 and item.is_ready)
        await item.stop(gently=False)

    run(work)


def test_a_child_dies_with_its_parent(tmp_path: Path) -> None:
    code = f"""
import asyncio, os, sys
from pathlib import Path
from relab.testbed.supervisor.process import Process, ProcessSpec
async def main():
    folder = Path({str(tmp_path)!r})
    made = Process(ProcessSpec(["/bin/sh", "-c", "echo $$ > pid.new; mv pid.new pid; exec sleep 1000"],
                         {{"PATH": "/usr/bin:/bin"}}, folder, folder / "log"))
    while not (folder / "pid").exists():
        await asyncio.sleep(0.01)
    os.kill(os.getpid(), 9)
asyncio.run(main())
"""

    async def work() -> None:
        parent = await asyncio.create_subprocess_exec(sys.executable, "-c", code, env=dict(os.environ))
        assert await parent.wait() == -signal.SIGKILL
        child = int((tmp_path / "pid").read_text())
        await until(lambda: not is_alive(child))

    run(work)


def test_cluster_is_not_filled_if_its_server_does_not_become_ready(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(postgres, "_START_S", 0.3)
    server = tmp_path / "postgres"
    server.write_text("#!/bin/sh\nexec sleep 60\n")
    server.chmod(0o755)
    (tmp_path / "data").mkdir()
    filled: list[int] = []
    found = PostgresPrograms(tmp_path, "16.1", None, statements=False)
    cluster = postgres.NewCluster(found, tmp_path / "data", log=tmp_path / "log", port=1)

    async def fill() -> None:
        with pytest.raises(StartError, match="does not start"):
            await cluster.fill(filled.append)

    run(fill)
    assert filled == []
