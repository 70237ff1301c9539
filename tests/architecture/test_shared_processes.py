"""The processes that tests share: the sandbox tests, which kill the orphans of a trial, do not end them."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from rig.waiting import wait_until
from support.lab.forked import forked

LEAVES_A_CHILD = """
import signal, subprocess
print(subprocess.Popen(["sleep", "100"], stdout=subprocess.DEVNULL).pid, flush=True)
signal.pause()
"""

STARTS_AFTER_A_TRIAL = """
import os
from contextlib import closing
from pathlib import Path

from relab.experiments.sandbox.process import Child, end_all_orphans
from rig.servers import PostgresServer, RedisServer
from support.lab.preloaded import run_command, share, start_server

def start_command():
    return run_command(["--version"], environment=dict(os.environ), cwd=Path("/"), within_s=60).returncode

with open(os.devnull, "r+b") as nothing:
    nothing = nothing.fileno()
    # From its start on, this process is the reaper of orphans.
    with closing(Child(["true"], cwd=Path("/"), environment={}, stdin=nothing, stdout=nothing, stderr=nothing)) as child:
        child.wait(60)
# The process that `run_command` starts, except that it loads no libraries.
share(start_server(loads=False))
started = start_command()
postgres, redis = PostgresServer.create(), RedisServer.create()
end_all_orphans()
print(started, start_command(), postgres.process.poll(), redis.process.poll())
postgres.destroy()
redis.destroy()
"""

IS_KILLED_WITH_A_COMMAND = """
import os, signal, sys
from pathlib import Path
from support.lab.preloaded import Command, share, start_server

share(start_server(loads=False))
with open(os.devnull, "r+b") as nothing:
    code = "import signal; signal.pause()"
    command = Command([code], environment=dict(os.environ), cwd=Path("/"), streams=(nothing,) * 3, module="-c")
print(command.pid, flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""


def run_program(code: str) -> subprocess.CompletedProcess[str]:
    """Run Python code in a new interpreter that finds the modules of the tests."""
    here = Path(__file__).parents[1]
    return subprocess.run(
        [sys.executable, "-c", code],
        env={"PYTHONPATH": f"{here}:{here.parent}", "PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )


@pytest.mark.skipif(not Path("/proc/self/task").is_dir(), reason="orphans are looked for in /proc")
def test_shared_servers_survive_the_removal_of_a_trials_orphans() -> None:
    done = run_program(STARTS_AFTER_A_TRIAL)
    assert done.stdout.split() == ["0", "0", "None", "None"], done.stderr


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux lets a process adopt others")
def test_process_that_forks_commands_adopts_and_reaps_what_a_killed_one_leaves() -> None:
    with forked("-c", LEAVES_A_CHILD) as command:
        left = psutil.Process(int(command.stdout.readline()))
        forking = psutil.Process(command.pid).parent()
        command.kill()
        command.wait()

    assert left.parent() == forking
    left.kill()
    wait_until(lambda: not psutil.pid_exists(left.pid))


def test_command_of_a_killed_test_process_ends() -> None:
    done = run_program(IS_KILLED_WITH_A_COMMAND)

    assert done.returncode == -signal.SIGKILL, done.stderr
    wait_until(lambda: not is_running(int(done.stdout)))


def is_running(pid: int) -> bool:
    """Return whether the process exists and is no zombie, which a container may leave unreaped."""
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
