"""The servers that tests share survive the tests of sandboxes, which kill the orphans of a trial, and serve all test processes."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from support.lab import preloaded

STARTS_AFTER_A_TRIAL = """
import os
from contextlib import closing
from pathlib import Path

from relab.experiments.sandbox.process import Child, end_all_orphans
from rig.servers import PostgresServer, RedisServer
from support.lab.preloaded import run_command

def start_command():
    return run_command(["--version"], environment=dict(os.environ), cwd=Path("/"), within_s=60).returncode

with open(os.devnull, "r+b") as nothing:
    nothing = nothing.fileno()
    # From its start on, this process is the reaper of orphans.
    with closing(Child(["true"], cwd=Path("/"), environment={}, stdin=nothing, stdout=nothing, stderr=nothing)) as child:
        child.wait(60)
started = start_command()
postgres, redis = PostgresServer.create(), RedisServer.create()
end_all_orphans()
print(started, start_command(), postgres.process.poll(), redis.process.poll())
postgres.destroy()
redis.destroy()
"""


RUNS_A_COMMAND = """
import os, sys
from pathlib import Path

from support.lab import preloaded

preloaded.share(Path(sys.argv[1]))
done = preloaded.run_command(["--version"], environment=dict(os.environ), cwd=Path("/"), within_s=60)
print(done.returncode)
"""


@pytest.mark.skipif(not Path("/proc/self/task").is_dir(), reason="orphans are looked for in /proc")
def test_shared_servers_are_not_orphans_of_a_trial() -> None:
    done = run_script(STARTS_AFTER_A_TRIAL)
    assert done.stdout.split() == ["0", "0", "None", "None"], done.stderr


def test_processes_share_the_one_that_forks() -> None:
    # Started here, unless another process has: it keeps the streams of its starter open.
    done = preloaded.run_command(["--version"], environment=dict(os.environ), cwd=Path("/"), within_s=60)
    assert done.returncode == 0
    folder = preloaded.share()

    assert run_script(RUNS_A_COMMAND, str(folder)).stdout == "0\n"

    path = str(folder / "socket")
    waiting = [process for process in psutil.process_iter(["cmdline"]) if path in (process.info["cmdline"] or ())]
    assert len([process for process in waiting if process.ppid() not in {other.pid for other in waiting}]) == 1


def run_script(text: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run a Python program that can import what tests can."""
    here = Path(__file__).parents[1]
    return subprocess.run(
        [sys.executable, "-c", text, *arguments],
        env={"PYTHONPATH": f"{here}:{here.parent}", "PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
