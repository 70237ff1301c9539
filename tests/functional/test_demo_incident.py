"""`python -m demo incident rollout` as a whole: a real shop fails, is repaired and improved; no process is left."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest

from rig.waiting import wait_until
from support.lab.process import lab_environment

pytestmark = [pytest.mark.full, pytest.mark.timeout(400)]
PROJECT = Path(__file__).parents[2]
TIMEOUT_S = 300


@contextmanager
def a_demo(tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    """Run the act in a folder of its own, with its temporary files below; check that no process and no file is left."""
    # Paths of sockets must be short.
    short = Path("/tmp", f"d{os.getpid()}")
    short.mkdir()
    environment = lab_environment(
        tmp_path, {"PYTHONPATH": str(PROJECT), "TMPDIR": str(short), "RELAB_REQUIRE_ALL": "1"}
    )
    with (tmp_path / "out").open("w") as out:
        process = subprocess.Popen(
            [sys.executable, "-m", "demo", "incident", "rollout"],
            cwd=tmp_path, env=environment, stdout=out, stderr=subprocess.STDOUT, text=True, start_new_session=True,
        )  # fmt: skip
    try:
        yield process
        assert not [path for path in short.iterdir() if path.name.startswith("relab-demo-")]
        wait_until(lambda: not _of(str(short)), what="the end of all that it had started")
    finally:
        process.kill()
        process.wait()
        subprocess.run(["rm", "-rf", str(short)], check=True)


def _of(word: str) -> list[str]:
    """Return the processes with a word in their arguments or environment."""
    found = []
    for process in psutil.process_iter():
        try:
            words, values = process.cmdline(), process.environ().values()
        except psutil.Error:
            continue
        if process.pid != os.getpid() and any(word in each for each in (*words, *values)):
            found.append(" ".join(words)[:200])
    return found


def test_shop_is_repaired_the_incident_reported_and_a_rollout_judged(tmp_path: Path) -> None:
    with a_demo(tmp_path) as process:
        code = process.wait(TIMEOUT_S)
    told = " ".join((tmp_path / "out").read_text().split())
    assert code == 0, told
    for word in ("detected", "cause", "connection_pool_leak", "ev-", "verified", "closed", "mended it"):
        assert word in told
    (home,) = (tmp_path / ".demo").iterdir()
    assert "connection\\_pool\\_leak" in (home / "postmortem.md").read_text()
    assert (home / "postmortem.html").read_text().startswith("<!doctype html>")
    assert (home / "responder" / "relab.db").is_file()
    assert "LAB_COMBO_REPORT.html" in told
    assert (home / "reports" / "LAB_COMBO_REPORT.html").read_text().startswith("<!doctype html>")


def has_ended_by_ctrl_c(process: subprocess.Popen[str]) -> bool:
    """Press Ctrl-C, unless the process has ended; return whether it has ended."""
    if process.poll() is None:
        process.send_signal(signal.SIGINT)
    return process.poll() is not None


@pytest.mark.parametrize("seen", ["Data of this tour", "shop: http", "lab serve", "lab rollout run"])
def test_ctrl_c_leaves_no_process_and_no_temporary_file(tmp_path: Path, seen: str) -> None:
    with a_demo(tmp_path) as process:
        wait_until(lambda: seen in (tmp_path / "out").read_text(), within_s=240, what=seen)
        # People may press Ctrl-C again and again.
        wait_until(lambda: has_ended_by_ctrl_c(process), within_s=TIMEOUT_S, what="the end of the demo")
        assert process.returncode == 130
    assert "Stopped." in (tmp_path / "out").read_text()
