"""The processes that tests share: the sandbox tests, which kill the orphans of a trial, do not end them."""

from __future__ import annotations

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


@pytest.mark.skipif(not Path("/proc/self/task").is_dir(), reason="orphans are looked for in /proc")
def test_shared_servers_survive_the_removal_of_a_trials_orphans() -> None:
    here = Path(__file__).parents[1]
    done = subprocess.run(
        [sys.executable, "-c", STARTS_AFTER_A_TRIAL],
        env={"PYTHONPATH": f"{here}:{here.parent}", "PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
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
