"""`python -m demo builds` as a whole: real builds fail and then succeed; without a compiler the act is skipped."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from demo import __main__ as demo
from demo.build_act import EXAMPLE, BuildsEnd, check_build_tools, set_fault
from relab.builds.service import read_project
from relab.testbed.errors import MissingProgramError
from rig.waiting import wait_until
from support.lab.process import lab_environment

PROJECT = Path(__file__).parents[2]
TIMEOUT_S = 120
FAILED = [{"result": {"failure": "exit_code"}}, {"result": {"failure": "out_of_memory"}}]


def start(tmp_path: Path, **environment: str) -> subprocess.Popen[bytes]:
    """Start the act; its output goes to the file `out`."""
    with (tmp_path / "out").open("wb") as out:
        return subprocess.Popen(
            [sys.executable, "-m", "demo", "builds"],
            cwd=tmp_path,
            env=lab_environment(tmp_path, {"PYTHONPATH": str(PROJECT), "COLUMNS": "300", **environment}),
            stdout=out,
            stderr=subprocess.STDOUT,
        )


def test_builds_fail_are_explained_and_succeed_with_the_chosen_action(tmp_path: Path) -> None:
    try:
        check_build_tools()
    except MissingProgramError as error:
        pytest.skip(str(error))
    code = start(tmp_path, RELAB_REQUIRE_ALL="1").wait(TIMEOUT_S)
    shown = (tmp_path / "out").read_text()

    assert code == 0, shown
    for text in ("fatal error: queue_client.h", "[Responder]", "needs more than 96 MB", "[Optimizer]", "builds list"):
        assert text in shown
    (home,) = (tmp_path / ".demo").iterdir()
    assert (home / "relab.db").is_file()
    # The act does not change the example itself.
    assert "FAULT = none" in (EXAMPLE / "settings.mk").read_text()


def test_ctrl_c_ends_the_build_and_all_its_processes(tmp_path: Path) -> None:
    try:
        check_build_tools()
    except MissingProgramError as error:
        pytest.skip(str(error))
    process = start(tmp_path)
    wait_until(lambda: "lab builds run" in (tmp_path / "out").read_text(), within_s=TIMEOUT_S, what="the first build")
    process.send_signal(signal.SIGINT)

    assert process.wait(TIMEOUT_S) == 130
    assert "Stopped." in (tmp_path / "out").read_text()
    wait_until(lambda: not _with(str(tmp_path)), what="the end of all processes that it had started")


def _with(word: str) -> list[int]:
    """Return the ids of the processes with a word in their arguments, except this process."""
    found = []
    for each in psutil.process_iter():
        try:
            if each.pid != os.getpid() and any(word in argument for argument in each.cmdline()):
                found.append(each.pid)
        except psutil.Error:
            continue
    return found


@pytest.mark.parametrize(("missing", "required", "code"), [("cc", "0", 0), ("make", "0", 0), ("cc", "1", 1)])
def test_without_a_build_tool_the_act_is_skipped_by_name(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    missing: str,
    required: str,
    code: int,
) -> None:
    programs = tmp_path / "programs"
    programs.mkdir()
    for tool in {"make", "cc", "python3"} - {missing}:
        found = programs / tool
        found.write_text("#!/bin/sh\nexit 0\n")
        found.chmod(0o755)
    # The missing tool is in PATH as a stub that fails.
    stub = programs / missing
    stub.write_text("#!/bin/sh\nexit 1\n")
    stub.chmod(0o755)
    monkeypatch.setenv("COLUMNS", "300")
    monkeypatch.setenv("PATH", str(programs))
    monkeypatch.setenv("RELAB_REQUIRE_ALL", required)
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.chdir(tmp_path)

    assert demo.main(["builds"]) == code

    shown = " ".join(capsys.readouterr().out.split())
    assert "SKIPPED: the act in which builds fail" in shown
    assert f"no working `{missing}`" in shown
    assert "apt-get install make gcc" in shown
    assert "builds list" not in shown


def test_act_sets_a_fault_of_the_example(tmp_path: Path) -> None:
    project = tmp_path / "project"
    shutil.copytree(EXAMPLE, project)
    set_fault(project, "memory")

    assert (project / "settings.mk").read_text().splitlines()[-1] == "FAULT = memory"
    assert read_project(project).file.defaults.retries > 0


@pytest.mark.parametrize(
    ("end", "problem"),
    [
        (BuildsEnd("nothing", FAILED, 0), "does not quote"),
        (BuildsEnd("queue_client.h", FAILED[:1], 0), "should have recorded"),
        (BuildsEnd("queue_client.h", FAILED, 1), "found no action"),
    ],
)
def test_end_of_the_builds_reports_its_problem(end: BuildsEnd, problem: str) -> None:
    (found,) = end.problems
    assert problem in found
    assert BuildsEnd("line 7: queue_client.h: No such file", FAILED, 0).problems == []
