"""Runs that are killed or stopped: they can be continued, lose no result, and leave no harness behind."""

from __future__ import annotations

import json
import shutil
import signal
from collections import Counter
from pathlib import Path

import psutil
import pytest

from relab.experiments.records.journal import Journal
from rig.waiting import wait_until
from support.experiments.projects import WAITING, Project, Run

COUNTED = """\
with open(bindings["meet"] + "/launches", "a") as file:
    file.write(ids["trial_id"] + "\\n")
"""
CARRYING = f"""\
seen = Path("seen")
before = seen.read_text().split() if seen.exists() else []
seen.write_text(" ".join([*before, ids["trial_id"]]))
{WAITING.replace("answer()", "answer(answer=before)")}"""
DETACHING = """\
if task.get("waits"):
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    child = subprocess.Popen(["sleep", "600"], start_new_session=True)
    Path(bindings["meet"], f"kept-{ids['trial_id']}").write_text(str(child.pid))
"""
"""A harness that ignores SIGTERM and has a child in a session of its own."""
DISGUISED = """\
if task.get("waits"):
    child = subprocess.Popen(["sleep", "600"], start_new_session=True, env={})
    Path(bindings["meet"], f"cleared-{ids['trial_id']}").write_text(str(child.pid))
"""
"""A harness with a child whose environment no longer names the trial."""


def _project(
    tmp_path: Path,
    waiting: str,
    *,
    harness: str = COUNTED + WAITING,
    concurrency: int = 2,
    state: str = "isolate_per_trial",
) -> Project:
    """Return a project with a task for each letter; the tasks of a `w` wait."""
    tasks = [{"task_id": f"task_{n:03}", "waits": letter == "w"} for n, letter in enumerate(waiting, start=1)]
    project = Project.make(tmp_path, harness, tasks)
    project.configure(
        baseline={"bindings": {"meet": str(tmp_path)}},
        design={"max_concurrency": concurrency, "policies": {"state": state}},
        runtime={"timeouts": {"grace_seconds": 0.2}},
    )
    return project


def _launches(tmp_path: Path) -> Counter[str]:
    return Counter((tmp_path / "launches").read_text().split())


def _pid(path: Path) -> int:
    return int(wait_until(lambda: path.exists() and path.read_text(), what=str(path)))


def _runs(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def test_killed_run_continues_with_trials_without_a_result(tmp_path: Path) -> None:
    project = _project(tmp_path, "..ww..", harness=COUNTED + DETACHING + WAITING)
    marks = [tmp_path / f"started-trial_{number}" for number in (3, 4)]
    # Without telemetry this is like a kill before the process committed its agent runs.
    with project.start("--no-telemetry") as runner:
        run = runner.wait_done(2)
        runner.wait_for(*marks)
        before = run.journal()
        runner.kill()

        assert sorted(row["trial_id"] for row in before) == ["trial_1", "trial_2"]
        assert run.journal() == before
        left = [process.pid for process in project.processes()]
        assert len(left) == 4, "two harnesses and a child of each that kept its environment"
        # A line that the kill has cut short is not a result.
        with (run.path / "journal.jsonl").open("a") as file:
            file.write('{"row": {"trial_id": "trial_3", "outc')
        assert project.json("experiments", "show", run.path.name)["run"]["status"] == "interrupted"
        for mark in marks:
            mark.unlink()
        # The continuation finds the harnesses also if the folder has another name.
        (tmp_path / "alias").symlink_to(project.root)
        with project.start("--continue", str(tmp_path / "alias" / run.path.relative_to(project.root))) as second:
            second.wait_for(*marks)
            assert [pid for pid in left if _runs(pid)] == []
            (tmp_path / "go").touch()
            answer = second.end().json

    assert answer["finished"] is True
    assert answer["trials"] == {"total": 6, "done": 6}
    assert answer["outcomes"] == {"control": {"success": 6}}
    assert sorted(run.rows) == [f"trial_{number}" for number in range(1, 7)]
    assert run.journal()[:2] == before
    once = {f"trial_{number}": 1 for number in (1, 2, 5, 6)}
    assert _launches(tmp_path) == once | {"trial_3": 2, "trial_4": 2}
    stored = {item["run_id"] for item in project.json("agent-runs", "list")["items"]}
    assert stored == {row["agent_run_id"] for row in run.rows.values()}
    assert project.processes() == []


@pytest.mark.full
def test_agent_runs_of_all_trials_are_sent_again_after_a_kill(tmp_path: Path) -> None:
    project = Project.make(tmp_path, tasks=2_032)
    first = project.json("run", "--no-telemetry", "--max-trials", "1", code=75)
    run = Run(Path(first["run"]["run_dir"]))
    # In place of trials that would take a minute: an earlier process wrote these lines, and was killed before its commits.
    [line] = [json.loads(line) for line in (run.path / "journal.jsonl").read_text().splitlines() if '"row"' in line]
    journal = Journal(run.path)
    journal.open()
    for number in range(2, 2_032):
        trial_id = f"trial_{number}"
        names = {"trial_id": trial_id, "task_id": f"task_{number:03}", "task_index": number - 1}
        journal.append({**line, "row": {**line["row"], **names, "agent_run_id": f"{run.path.name}.{trial_id}"}})
    journal.close()
    answer = project.json("run", "--continue", str(run.path), "--max-trials", "0")

    assert answer["finished"] is True
    assert answer["agent_runs"] == {"stored": 2_032, "failed": 0}
    # All are stored now, so there is nothing left to send.
    again = project.json("run", "--continue", str(run.path))
    assert again["agent_runs"] == {"stored": 0, "failed": 0}


def test_run_is_continued_by_its_folder_or_its_id(tmp_path: Path) -> None:
    project = Project.make(tmp_path)
    project.json("run", "--max-trials", "1", code=75)
    [folder] = (project.root / ".lab" / "runs").iterdir()

    assert project.json("run", "--continue", folder.name, "--max-trials", "0")["finished"] is True
    assert project.json("run", "--continue", str(folder))["finished"] is True
    missing = project.lab("run", "--continue", "run_1", code=1)
    assert "There is no run 'run_1'. Run `lab experiments list`" in missing.err


SIGNALLING = """
if ids["trial_id"] == "trial_2" and not Path(bindings["meet"], "sent").exists():
    Path(bindings["meet"], "sent").touch()
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    if os.fork() == 0:
        os.setsid()
        if os.fork() == 0:
            time.sleep(600)
        os._exit(0)
    runner = os.getppid()
    # No other program must be met, whatever becomes of the runner.
    if os.path.samefile(f"/proc/{runner}/cwd", bindings["root"]):
        os.kill(runner, bindings["number"])
    wait_for(bindings["meet"] + "/go")
"""
"""A harness of a plain local run that sends its runner a signal, once, and leaves a process in a session of its own."""


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGSTOP], ids=lambda number: number.name)
def test_a_local_harness_that_signals_its_runner_costs_no_result(tmp_path: Path, number: signal.Signals) -> None:
    project = _project(tmp_path, "....", harness=COUNTED + SIGNALLING + "answer()\n", concurrency=1)
    bindings = {"meet": str(tmp_path), "root": str(project.root), "number": int(number)}
    project.configure(baseline={"bindings": bindings}, design={"max_concurrency": 1})

    with project.start() as runner:
        run = runner.wait_done(1)
        if number is signal.SIGKILL:
            assert runner.process.wait(100) == -signal.SIGKILL
            assert project.processes(), "a plain local harness outlives its runner"
        elif number is signal.SIGTERM:
            runner.says("finishing the running trials")
        else:
            wait_until(
                lambda: psutil.Process(runner.process.pid).status() == psutil.STATUS_STOPPED, what="the stopped runner"
            )
            runner.press(signal.SIGCONT)
        before = run.journal()
        (tmp_path / "go").touch()
        if number is not signal.SIGKILL:
            runner.end(None)
        answer = project.json("run", "--continue", str(run.path))

    assert answer["finished"] is True
    assert answer["trials"] == {"total": 4, "done": 4}
    assert answer["outcomes"] == {"control": {"success": 4}}
    assert sorted(row["trial_id"] for row in run.journal()) == [f"trial_{number}" for number in range(1, 5)]
    assert run.journal()[: len(before)] == before
    launches = _launches(tmp_path)
    assert launches.pop("trial_2") == (2 if number is signal.SIGKILL else 1)
    assert launches == {f"trial_{number}": 1 for number in (1, 3, 4)}
    assert project.processes() == []


def test_continued_run_remembers_failures_of_a_variant(tmp_path: Path) -> None:
    failing = WAITING.replace("answer()", 'answer("failure", error={"error_type": "wrong", "message": "no answer"})')
    project = _project(tmp_path, "..w...", harness=failing, concurrency=1)
    project.configure(
        baseline={"bindings": {"meet": str(tmp_path)}},
        design={"policies": {"pruning": {"max_consecutive_failures": 3}}},
    )
    with project.start() as runner:
        run = runner.wait_done(2)
        runner.wait_for(tmp_path / "started-trial_3")
        runner.kill()
    (tmp_path / "go").touch()

    answer = project.json("run", "--continue", str(run.path))

    assert answer["outcomes"] == {"control": {"failure": 3, "missing": 3}}
    assert [run.rows[f"trial_{number}"]["error_type"] for number in range(4, 7)] == ["pruned"] * 3
    assert answer["problems"] == []


def test_ctrl_c_finishes_running_trials_and_one_process_continues(tmp_path: Path) -> None:
    project = _project(tmp_path, "wwww")
    with project.start("--no-telemetry") as runner:
        runner.wait_for(tmp_path / "started-trial_1", tmp_path / "started-trial_2")
        runner.press()
        runner.says("finishing the running trials")
        (tmp_path / "go").touch()
        answer = runner.end(130).json

    assert answer["ok"] is True
    assert answer["finished"] is False
    assert answer["trials"] == {"total": 4, "done": 2}
    run = Run(Path(answer["run"]["run_dir"]))
    assert {name: row["outcome"] for name, row in run.rows.items()} == {"trial_1": "success", "trial_2": "success"}
    (tmp_path / "go").unlink()
    go_on = ("--continue", str(run.path), "--no-telemetry")
    with project.start(*go_on) as first:
        first.wait_for(tmp_path / "started-trial_3", tmp_path / "started-trial_4")
        for command in (("run", *go_on), ("clean", "--runs", "--yes")):
            refused = project.json(*command, code=1)["error"]
            assert refused["code"] == "run_busy"
            assert str(run.path) in refused["message"]
        (tmp_path / "go").touch()
        answer = first.end().json

    assert answer["finished"] is True
    assert answer["trials"] == {"total": 4, "done": 4}
    assert sorted(run.rows) == ["trial_1", "trial_2", "trial_3", "trial_4"]
    assert set(_launches(tmp_path).values()) == {1}


def test_closed_terminal_finishes_running_trials_and_leaves_no_harness(tmp_path: Path) -> None:
    project = _project(tmp_path, "www")
    with project.start("--no-telemetry") as runner:
        runner.wait_for(tmp_path / "started-trial_1", tmp_path / "started-trial_2")
        # The shell and the kernel may both send the signal.
        runner.press(signal.SIGHUP)
        runner.says("finishing the running trials")
        runner.press(signal.SIGHUP)
        (tmp_path / "go").touch()
        answer = runner.end(130).json

        assert project.processes() == []
    assert answer["outcomes"] == {"control": {"success": 2}}
    assert answer["trials"] == {"total": 3, "done": 2}


@pytest.mark.parametrize("number", [signal.SIGINT, pytest.param(signal.SIGTERM, marks=pytest.mark.full)])
def test_second_ctrl_c_ends_all_processes_at_once(tmp_path: Path, number: signal.Signals) -> None:
    project = _project(tmp_path, ".ww", harness=DETACHING + DISGUISED + WAITING)
    with project.start("--no-telemetry") as runner:
        runner.wait_done(1)
        runner.wait_for(tmp_path / "started-trial_2", tmp_path / "started-trial_3")
        marks = [f"{name}-trial_{trial}" for name in ("started", "kept", "cleared") for trial in (2, 3)]
        pids = [_pid(tmp_path / mark) for mark in marks]
        runner.press(number)
        runner.says("finishing the running trials")
        runner.press(number)
        answer = runner.end(130).json

        # No other command has run since, so the runner itself has ended them.
        assert [pid for pid in pids if _runs(pid)] == []
        assert project.processes() == []

    assert answer["finished"] is False
    assert answer["trials"] == {"total": 3, "done": 1}
    run = Run(Path(answer["run"]["run_dir"]))
    assert list(run.rows) == ["trial_1"]


@pytest.mark.full
def test_run_with_changed_files_or_a_changed_project_is_not_continued(tmp_path: Path) -> None:
    project = _project(tmp_path, "w.", harness=COUNTED + CARRYING, concurrency=1, state="accumulate")
    with project.start("--no-telemetry") as runner:
        runner.wait_for(tmp_path / "started-trial_1")
        runner.press()
        runner.says("finishing the running trials")
        (tmp_path / "go").touch()
        run = Run(Path(runner.end(130).json["run"]["run_dir"]))
    go_on = ("run", "--continue", str(run.path), "--no-telemetry")

    for name in ("dataset/tasks.jsonl", "resolved_experiment.json", "journal.jsonl"):
        path = run.path / name
        kept = path.read_text()
        path.write_text(kept.replace("task_002", "task_099").replace('"trying"', '"tried"').replace('"row"', '"rwo"'))
        refused = project.json(*go_on, code=1)["error"]
        assert refused["code"] == "run_damaged"
        assert name in refused["message"]
        path.write_text(kept)
    shutil.rmtree(project.root / ".lab" / "cache")
    (project.root / "new").touch()
    refused = project.json(*go_on, code=1)["error"]
    assert refused["code"] == "run_changed"
    assert "snapshot" in refused["message"]
    (project.root / "new").unlink()

    answer = project.json(*go_on)

    assert answer["trials"] == {"total": 2, "done": 2}
    assert answer["outcomes"] == {"control": {"success": 2}}
    assert set(_launches(tmp_path).values()) == {1}
    # The state that was carried over before the stop is carried over after it, too.
    assert json.loads((run.trial("trial_2") / "trial_output.json").read_bytes())["answer"] == ["trial_1"]
