"""`lab run --executor ray` on a cluster of three nodes: the results of a local run, also after kills."""

from __future__ import annotations

import json
import os
import signal
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil
import pytest

from rig.ray_cluster import ray_cluster
from rig.waiting import wait_until
from support.components.ray import require_ray
from support.experiments.projects import Project, Run, files_with, read_lines
from support.experiments.reference import reference

if TYPE_CHECKING:
    from ray.cluster_utils import Cluster

pytestmark = [pytest.mark.full, pytest.mark.timeout(300)]

SECRET = "correct-horse-battery"
TIMES = {"duration_ms", "started_at", "ended_at", "overhead_ms", "run_id", "agent_run_id", "latency_ms"}
MEETING = """\
with open(bindings["meet"] + "/launches", "a") as file:
    file.write(ids["trial_id"] + "\\n")
Path("made").write_text(ids["task_id"])
Path("data/tasks.jsonl").unlink()
if task.get("waits"):
    Path(bindings["meet"], "started-" + ids["trial_id"]).write_text(f"{os.getpid()} {os.getppid()}")
    wait_for(bindings["meet"] + "/go")
answer("failure" if task.get("fails") else "success", metrics={"length": len(ids["task_id"]), "latency_ms": 1})
"""
LEAVING = """\
print(os.environ["API_KEY"])
answer()
os.symlink("/etc/passwd", "outwards")
os.symlink("..", paths["out"] + "/back")
os.mkfifo("pipe")
Path("setuid").touch()
os.chmod("setuid", 0o4755)
os.mkdir("locked")
Path("locked/inside").write_text("inside")
os.chmod("locked", 0)
open(b"not-utf-8-\\xff", "w").close()
os.rename("data", "moved")
os.symlink("moved", "data")
"""


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    """A cluster with a head and two more nodes of two processors each."""
    require_ray()
    with ray_cluster(nodes=3) as made:
        yield made


@pytest.fixture
def on_ray(cluster: Cluster) -> tuple[str, ...]:
    """The options with which a run uses the cluster."""
    return ("--executor", "ray", "--address", cluster.address)


def meeting(tmp_path: Path, waiting: str, concurrency: int = 6, **sections: Any) -> Project:
    """Return a project with a task for each letter: `w` waits for the file `go`, and `f` fails."""
    tasks = [{"task_id": f"task_{n}", "waits": kind == "w", "fails": kind == "f"} for n, kind in enumerate(waiting, 1)]
    project = Project.make(tmp_path, MEETING, tasks)
    project.configure(
        baseline={"bindings": {"meet": str(tmp_path)}}, design={"max_concurrency": concurrency}, **sections
    )
    return project


def results(run: Run) -> list[str]:
    """Return the rows of all tables of a run, sorted, without times and the run's ids."""
    return sorted(
        f"{path.name} {json.dumps(_plain(row))}"
        for path in (run.path / "analysis" / "tables").glob("*.jsonl")
        for row in read_lines(path)
        if row.get("metric_name") not in TIMES
    )


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _plain(inner) for name, inner in value.items() if name not in TIMES and "duration" not in name}
    return value


def test_killed_worker_and_killed_node_neither_lose_nor_repeat_a_result(
    tmp_path: Path, cluster: Cluster, on_ray: tuple[str, ...]
) -> None:
    project = meeting(tmp_path, "wwwwww" + "..f." * 4)
    with project.start(*on_ray, "--no-telemetry") as runner:
        marks = [tmp_path / f"started-trial_{number}" for number in range(1, 7)]
        runner.wait_for(*marks)
        workers = {int(mark.read_text().split()[1]) for mark in marks}
        assert len(workers) == 6

        os.kill(min(workers), signal.SIGKILL)
        wait_until(
            lambda: (tmp_path / "launches").read_text().count("\n") >= 7,
            what="the repetition of its trial",
            within_s=100,
        )
        # Chosen before the new node joins, because the cluster lists its nodes in no order, and the new one is idle.
        busy = cluster.list_all_nodes()[1]
        node = cluster.add_node(num_cpus=2, object_store_memory=100_000_000)
        cluster.remove_node(busy, allow_graceful=False)
        wait_until(
            lambda: (tmp_path / "launches").read_text().count("\n") >= 9,
            what="the repetition of two trials",
            within_s=100,
        )
        (tmp_path / "go").touch()
        done = runner.end().json

    run = Run(Path(done["run"]["run_dir"]))
    assert node is not None
    assert len(run.journal()) == len(run.rows) == len(project.tasks)
    assert max(Counter(row["trial_id"] for row in run.journal()).values()) == 1
    local = project.run(code=0)
    assert results(run) == results(local)
    for trial_id in run.rows:
        here, there = local.trial(trial_id), run.trial(trial_id)
        assert _tree(here) == _tree(there)
    project.lab("experiments", "verify", str(run.path))


def _tree(folder: Path) -> dict[str, int]:
    """Return the mode of each entry below a folder, by path; pipes are left out."""
    found = {}
    for path in folder.rglob("*"):
        if path.is_symlink():
            found[os.fsdecode(os.fsencode(path.relative_to(folder))) + " -> " + str(path.readlink())] = 0
        elif not path.is_fifo():
            found[str(path.relative_to(folder))] = path.stat().st_mode & (0o4777 if path.is_dir() else 0o777)
    return found


def test_files_that_a_harness_leaves_are_those_of_a_local_run_and_no_secret_reaches_ray(
    tmp_path: Path, cluster: Cluster, on_ray: tuple[str, ...]
) -> None:
    project = Project.make(tmp_path, LEAVING, 2)
    project.configure(runtime={"harness": {"secrets": ["API_KEY"]}})

    there = project.run(*on_ray, code=0, API_KEY=SECRET)
    here = project.run(code=0, API_KEY=SECRET)

    assert results(there) == results(here)
    for trial_id in there.rows:
        assert {path for path in _tree(there.trial(trial_id)) if "setuid" not in path} == {
            path for path in _tree(here.trial(trial_id)) if "setuid" not in path
        }
        assert (there.trial(trial_id) / "stdout.log").read_text() == "[secret API_KEY]\n"
        assert (there.trial(trial_id) / "workspace" / "setuid").stat().st_mode & 0o7000 == 0
    assert files_with(there.path, [SECRET.encode()]) == []
    assert files_with(Path(cluster.head_node.get_session_dir_path()), [SECRET.encode()]) == []


def test_trial_on_a_node_is_paused_and_goes_on_there(tmp_path: Path, on_ray: tuple[str, ...]) -> None:
    # Long enough that the request reaches the node before the trial ends, also on a busy machine.
    project = reference(tmp_path, steps=100)
    with project.start(*on_ray, "--no-telemetry") as runner:
        (path,) = wait_until(project.runs, what="the run")
        runner.wait_for(path / "trials" / "trial_1" / "trial_input.json")
        answer = project.json("pause", "--run-dir", str(path), "--trial", "trial_1", "--label", "lunch")
        runner.end(130)

    (paused,) = answer["trials"]
    assert paused["status"] == "paused"
    assert paused["acknowledged"] is True
    resumed = project.json("resume", "--run-dir", str(path), *on_ray, "--no-telemetry")

    run = Run(path)
    assert resumed["finished"] is True
    assert run.rows["trial_1"]["outcome"] == "success"
    assert run.rows["trial_1"]["hook_events_invalid"] == 0
    assert run.rows["trial_1"]["event_counts"]["agent_step_end"] == 100


def test_fork_on_a_node_goes_on_from_the_checkpoint_of_its_parent(tmp_path: Path, on_ray: tuple[str, ...]) -> None:
    project = reference(tmp_path, steps=5)
    parent = project.run(*on_ray, code=0)

    done = project.json("fork", "--run-dir", str(parent.path), "--from-trial", "trial_1", "--at", "step:3", *on_ray)

    fork = Run(Path(done["run"]["run_dir"]))
    events = read_lines(fork.trial("trial_1") / "out" / "harness_events.jsonl")
    steps = [event["step_index"] for event in events if event["event_type"] == "agent_step_end"]
    whole = read_lines(parent.trial("trial_1") / "out" / "harness_events.jsonl")
    assert steps == [event["step_index"] for event in whole if event["event_type"] == "agent_step_end"][-len(steps) :]
    assert 0 < len(steps) < 5
    answers = [json.loads((run.trial("trial_1") / "trial_output.json").read_bytes()) for run in (parent, fork)]
    assert answers[0]["outcome"] == answers[1]["outcome"] == "success"
    assert answers[0].get("answer") == answers[1].get("answer")
    given = json.loads((fork.trial("trial_1") / "trial_input.json").read_bytes())
    assert given["ext"]["fork"]["fallback_mode"] == "checkpoint"


def is_running(pid: int) -> bool:
    """Return whether a process exists and has not ended."""
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def test_killed_run_continues_on_ray_and_second_ctrl_c_ends_the_trials(tmp_path: Path, on_ray: tuple[str, ...]) -> None:
    project = meeting(tmp_path, "..ww..", concurrency=2)
    marks = [tmp_path / f"started-trial_{number}" for number in (3, 4)]
    with project.start(*on_ray, "--no-telemetry") as runner:
        run = runner.wait_done(2)
        runner.wait_for(*marks)
        runner.kill()
        harnesses = [int(mark.read_text().split()[0]) for mark in marks]
        for mark in marks:
            mark.unlink()

        with project.start("--continue", str(run.path), *on_ray, "--no-telemetry") as again:
            again.wait_for(*marks)
            again.press()
            again.says("press Ctrl-C again")
            again.press()
            again.end(130)
    assert len(run.journal()) == 2
    # A harness that has ended is a zombie until its new parent process waits for it.
    wait_until(lambda: not any(map(is_running, harnesses)), within_s=100, what="the end of the first harnesses")

    (tmp_path / "go").touch()
    done = project.json("run", "--continue", str(run.path), *on_ray)

    assert done["finished"] is True
    assert done["agent_runs"]["stored"] == len(run.rows) == 6
    assert {row["outcome"] for row in run.rows.values()} == {"success"}


def test_state_is_carried_from_node_to_node(tmp_path: Path, on_ray: tuple[str, ...]) -> None:
    project = Project.make(
        tmp_path,
        'seen = Path("seen")\nanswer(metrics={"count": len(seen.read_text()) if seen.exists() else 0})\nwith seen.open("a") as file:\n    file.write("x")\n',
        4,
    )
    project.configure(design={"policies": {"state": "accumulate"}, "max_concurrency": 2})

    run = project.run(*on_ray, code=0)

    assert [run.rows[f"trial_{number}"]["metrics"]["count"] for number in range(1, 5)] == [0, 1, 2, 3]


def test_missing_cluster_and_trial_too_large_for_every_node_are_named_errors(
    tmp_path: Path, on_ray: tuple[str, ...]
) -> None:
    project = Project.make(tmp_path)

    refused = project.json("run", "--executor", "ray", "--address", "127.0.0.1:1", code=69)
    assert refused["error"]["code"] == "executor_unavailable"
    assert "127.0.0.1:1" in refused["error"]["message"]
    client = project.json("run", "--executor", "ray", "--address", "ray://127.0.0.1:10001", code=64)
    assert "client protocol" in client["error"]["message"]
    project.configure(runtime={"sandbox": {"resources": {"cpu_count": 64}}})
    large = project.json("run", *on_ray, code=69)
    assert "64 processors" in large["error"]["message"]
    assert project.runs() == []
