"""Tests run in several processes report what they would report in one."""

from __future__ import annotations

import os
import subprocess
import sys
import xml.etree.ElementTree as ET
from pathlib import Path

PASSES = """
import os
from pathlib import Path

import pytest
from support.parallel import once_for_all

@once_for_all
def made_by():
    return os.getpid()

@pytest.fixture(scope="session")
def server():
    yield
    Path({log!r}).open("a").write(f"{{Path(__file__).name}} {{made_by()}}\\n")

def test_passes(server, tmp_path):
    assert made_by() != os.getpid()

def test_is_skipped():
    pytest.skip("for a reason")

def test_fails(capfd):
    os.system("echo captured")
    assert [1] == [2]
"""
CRASHES = """
import os

def test_ends_its_process():
    os._exit(0)

def test_runs_nevertheless():
    pass
"""


def run_pytest(folder: Path, *options: str) -> subprocess.CompletedProcess[str]:
    """Run the tests of a folder in two processes."""
    tests = Path(__file__).parents[1]
    where = ["-c", os.devnull, "--rootdir", str(folder), "--basetemp", str(folder / "temporary")]
    how = ["-p", "support.parallel", "--workers", "2", "--junitxml", str(folder / "results.xml")]
    return subprocess.run(
        [sys.executable, "-m", "pytest", *where, *how, *options],
        cwd=folder,
        env={"PYTHONPATH": str(tests), "PATH": "/usr/bin:/bin", "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"},
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )


def outcomes(folder: Path) -> dict[str, str]:
    """Return how each test ended."""
    cases = ET.parse(folder / "results.xml").iter("testcase")
    return {f"{case.get('classname')}.{case.get('name')}": "".join(part.tag for part in case) for case in cases}


def test_results_come_from_all_processes(tmp_path: Path) -> None:
    log = tmp_path / "log"
    for name in ("a", "b", "c"):
        (tmp_path / f"test_{name}.py").write_text(PASSES.format(log=str(log)))

    done = run_pytest(tmp_path)

    assert done.returncode == 1, done.stdout + done.stderr
    assert outcomes(tmp_path) == {
        f"test_{name}.{test}": outcome
        for name in ("a", "b", "c")
        for test, outcome in (("test_passes", ""), ("test_is_skipped", "skipped"), ("test_fails", "failure"))
    }
    assert done.stdout.count("captured\n") == 3
    # Fixtures are released, and what all processes share was made by one.
    assert len({line.split()[1] for line in log.read_text().splitlines()}) == 1


def test_a_crash_fails_its_test_alone(tmp_path: Path) -> None:
    (tmp_path / "test_crash.py").write_text(CRASHES)
    (tmp_path / "test_other.py").write_text("def test_passes(): pass")

    done = run_pytest(tmp_path)

    assert done.returncode == 1, done.stdout + done.stderr
    assert "the test process ended with exit code 0 during this test" in done.stdout
    assert outcomes(tmp_path) == {
        "test_crash.test_ends_its_process": "failure",
        "test_crash.test_runs_nevertheless": "",
        "test_other.test_passes": "",
    }


def test_no_further_file_begins_after_the_last_failure_allowed(tmp_path: Path) -> None:
    for name in ("a", "b", "c", "d", "e", "f"):
        (tmp_path / f"test_{name}.py").write_text("import time\ndef test_fails(): time.sleep(0.2); assert False")

    done = run_pytest(tmp_path, "--maxfail", "1")

    assert done.returncode == 1, done.stdout + done.stderr
    assert 1 <= len(outcomes(tmp_path)) < 6
