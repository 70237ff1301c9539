"""Misbehaving harnesses: each trial gets its own outcome, and the runner and the other trials are not affected."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import psutil
import pytest

from contract.sandbox.rooms import INSTALL
from support.components.required import require_program
from support.experiments.projects import Project, Run, files_with, read_lines, without_privileges

SECRET = 'sk-hostile-7f3a9c"e1/+ü'
TOKEN = "tok-hostile-51cc02"
ENCODED = [
    TOKEN.encode(),
    SECRET.encode(),
    json.dumps(SECRET)[1:-1].encode(),
    *(base64.b64encode(b"x" * offset + SECRET.encode())[4:-4] for offset in range(3)),
]
VICTIM = "x" * 3_000_000

DOES = {
    "is_fine": "answer()",
    "answers_on_stdout": "print(json.dumps({'schema_version': 'trial_output_v1', 'ids': ids, 'outcome': 'success'}))",
    "writes_no_json": "output.write_text('{')",
    "writes_no_object": "output.write_text('[1]')",
    "says_nothing": "",
    "exits_with_3": "sys.exit(3)",
    "is_killed": "os.kill(os.getpid(), signal.SIGSEGV)",
    "floods_stdout": "while True:\n        print('x' * 10_000)",
    "hangs": """
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    print("so far", flush=True)
    if os.fork():
        time.sleep(600)
    os.setsid()
    if os.fork():
        os._exit(0)
    Path(bindings["meet"], "hung").write_text(str(os.getpid()))
    time.sleep(600)""",
    "detaches": """
    child = subprocess.Popen(["sleep", "600"], start_new_session=True, env={})
    Path(bindings["meet"], "detached").write_text(str(child.pid))
    answer()""",
    "is_another": "ids = {**ids, 'trial_id': 'trial_1'}\n    answer()",
    "nests_the_answer_of_another": """
    ids = {**ids, "trial_id": "trial_1"}
    nested = ["x"] * 3_000
    for _ in range(150):
        nested = [nested]
    answer(answer=nested)""",
    "links_its_output": "output.symlink_to(bindings['meet'] + '/linked')\n    answer()",
    "links_the_runners_files": """
    for name in ("trial_output.json", "trial_state.json", "stdout.log"):
        path = Path(paths["workspace"]).parent / name
        path.unlink(missing_ok=True)
        path.symlink_to(bindings["meet"] + "/victim")""",
    "rewrites_its_input": "Path(arguments['--input']).write_text('{}')\n    answer()",
    "makes_pipes": "os.mkfifo(events)\n    os.mkfifo(Path(paths['state'], 'pipe'))\n    os.mkfifo('pipe')\n    answer()",
    "answers_in_a_pipe": "os.mkfifo(output)",
    "spends_and_stays": """
    # One step more than the budget, so that the runner finds the same number whenever it counts the steps.
    for step in range(4):
        event("agent_step_start", step_index=step)
    time.sleep(600)""",
    "spends_and_ends": """
    event("model_call_end", usage={"tokens_in": 900, "tokens_out": 200})
    answer()""",
    "garbles_its_events": """
    event("agent_step_start", step_index=1)
    with events.open("a") as file:
        file.write("garbage\\n" + json.dumps({"event_type": "error", "seq": 9}) + "\\n[]\\n")
    event("agent_step_end", step_index=1)
    answer()""",
    "shows_its_environment": "answer(answer=dict(os.environ))",
    "tells_the_secret": """
    secret = os.environ["API_KEY"]
    encoded = __import__("base64").b64encode(b"x" + secret.encode()).decode()
    print(secret, encoded)
    print(secret, file=sys.stderr)
    event("tool_call_end", tool={"name": secret}, outcome={"status": "error", "message": secret})
    event("error", message=secret, error_type=secret)
    Path("closed").mkdir()
    Path(os.environ["API_TOKEN"]).write_text("in a name")
    Path("link").symlink_to(os.environ["API_TOKEN"])
    for folder in (".", "closed", paths["state"], paths["out"]):
        Path(folder, "secret.txt").write_text(secret + encoded)
    answer("failure", answer=secret, metrics={"told": secret, secret: 1.0}, error={"message": secret})""",
}
BECOMES: dict[str, tuple[str, str | None]] = {
    "is_fine": ("success", None),
    "answers_on_stdout": ("success", None),
    "writes_no_json": ("error", "invalid_trial_output"),
    "writes_no_object": ("error", "invalid_trial_output"),
    "says_nothing": ("error", "harness_process_error"),
    "exits_with_3": ("error", "harness_process_error"),
    "is_killed": ("error", "harness_process_error"),
    "floods_stdout": ("error", "output_limit_exceeded"),
    "hangs": ("error", "trial_timeout"),
    "detaches": ("success", None),
    "is_another": ("error", "foreign_trial_output"),
    "nests_the_answer_of_another": ("error", "foreign_trial_output"),
    "links_its_output": ("error", "invalid_trial_output"),
    "links_the_runners_files": ("error", "harness_process_error"),
    "rewrites_its_input": ("success", None),
    "makes_pipes": ("success", None),
    # The runner deletes pipes before it reads outputs, so this harness has no output.
    "answers_in_a_pipe": ("error", "harness_process_error"),
    "spends_and_stays": ("error", "budget_exceeded"),
    "spends_and_ends": ("error", "budget_exceeded"),
    "garbles_its_events": ("success", None),
    "shows_its_environment": ("success", None),
    "tells_the_secret": ("failure", None),
}


@pytest.fixture(scope="module")
def meet(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("meet")
    (folder / "victim").write_text(VICTIM)
    return folder


@pytest.fixture(scope="module")
def project(meet: Path, tmp_path_factory: pytest.TempPathFactory) -> Project:
    cases = "".join(f"if ids['task_id'] == {task!r}:\n    {code or 'pass'}\n" for task, code in DOES.items())
    limits = {"limits": {"max_steps": 3, "max_total_tokens": 1_000}}
    tasks = [{"task_id": name, "task": {}, **(limits if "spends" in name else {"limits": {}})} for name in DOES]
    project = Project.make(tmp_path_factory.mktemp("hostile"), cases, tasks)
    project.configure(
        baseline={"bindings": {"meet": str(meet)}},
        design={"max_concurrency": 4},
        runtime={
            "harness": {
                "integration_level": "cli_events",
                "environment": {"pass": ["PASSED", "NOT_THERE"], "set": {"MODE": "test"}},
                "secrets": ["API_KEY", "API_TOKEN"],
            },
            # Long enough for each harness that does not hang, also if four share a slow disk.
            "timeouts": {"trial_seconds": 10, "grace_seconds": 0.2},
            "workspace": {"max_output_mb": 1},
        },
    )
    return project


@pytest.fixture(scope="module")
def run(project: Project) -> Run:
    return project.run(telemetry=True, API_KEY=SECRET, API_TOKEN=TOKEN, PASSED="yes", PRIVATE="no")


def test_each_misbehaving_harness_gets_its_outcome(run: Run) -> None:
    assert {task: (row["outcome"], row["error_type"]) for task, row in run.by_task.items()} == BECOMES
    exits = {task: run.by_task[task]["exit_code"] for task in ("exits_with_3", "is_killed", "hangs", "is_fine")}
    assert exits == {"exits_with_3": 3, "is_killed": -11, "hangs": -9, "is_fine": 0}
    messages = {task: row["error_message"] for task, row in run.by_task.items() if row["outcome"] == "error"}
    assert "trial_id is 'trial_1'" in messages["is_another"]
    assert "stdout.log is larger than 1 MB" in messages["floods_stdout"]
    assert messages["spends_and_stays"] == "steps: 4 of 3"
    assert messages["spends_and_ends"] == "total tokens: 1100 of 1000"
    assert run.by_task["garbles_its_events"]["event_counts"] == {"agent_step_start": 1, "agent_step_end": 1}
    for task, row in run.by_task.items():
        written = json.loads((run.path / row["trial_dir"] / "trial_output.json").read_bytes())
        assert written["ids"]["task_id"] == task
        assert written["outcome"] == row["outcome"]


def test_oversized_output_is_cut_and_the_rest_kept(run: Run) -> None:
    flooded = run.path / run.by_task["floods_stdout"]["trial_dir"] / "stdout.log"
    assert flooded.stat().st_size < 1_048_576 + 100
    assert flooded.read_bytes().endswith(b"[cut by the runner after 1,048,576 bytes]\n")
    assert (run.path / run.by_task["hangs"]["trial_dir"] / "stdout.log").read_text() == "so far\n"


def test_rejected_output_is_stored_without_growing(run: Run) -> None:
    row = run.by_task["nests_the_answer_of_another"]
    stored = (run.path / row["trial_dir"] / "trial_output.json").read_bytes()

    nested = json.loads(stored)["ext"]["harness_output"]["answer"]
    for _ in range(150):
        (nested,) = nested
    assert nested == ["x"] * 3_000
    assert len(stored) < 20_000


def test_trials_leave_no_running_process(run: Run, project: Project, meet: Path) -> None:
    assert project.processes() == []
    for name in ("hung", "detached"):
        assert not psutil.pid_exists(int((meet / name).read_text()))


def test_the_runner_follows_no_link_of_a_harness(run: Run, meet: Path) -> None:
    assert (meet / "victim").read_text() == VICTIM
    # The harness itself wrote this file; the runner does not read it.
    assert (meet / "linked").exists()
    for task in ("links_its_output", "links_the_runners_files"):
        output = run.path / run.by_task[task]["trial_dir"] / "trial_output.json"
        assert not output.is_symlink()
    trial = run.path / run.by_task["rewrites_its_input"]["trial_dir"]
    assert json.loads((trial / "trial_input.json").read_bytes())["ids"]["task_id"] == "rewrites_its_input"


@pytest.mark.full
def test_ten_thousand_files_are_accounted_for(tmp_path: Path) -> None:
    harness = """
for number in range(10_000):
    path = Path(f"folder_{number % 100}", f"file_{number}")
    path.parent.mkdir(exist_ok=True)
    path.touch()
answer()
"""
    run = Project.make(tmp_path, harness, tasks=1).run()

    (record,) = map(json.loads, (run.path / "evidence" / "evidence_records.jsonl").read_text().splitlines())
    assert len(run.json(record["paths"]["diff_incremental"])["added"]) == 10_000


def test_only_listed_variables_reach_a_harness(run: Run) -> None:
    trial = run.path / run.by_task["shows_its_environment"]["trial_dir"]
    found: dict[str, Any] = json.loads((trial / "trial_output.json").read_bytes())["answer"]
    own = {"AGENTLAB_TRIAL_INPUT", "AGENTLAB_TRIAL_OUTPUT", "AGENTLAB_CONTROL_PATH", "AGENTLAB_HARNESS_ROOT"}
    profile = {"PATH", "LANG", "LC_ALL", "TZ", "PYTHONHASHSEED", "HOME", "TMPDIR", "XDG_CACHE_HOME", "XDG_CONFIG_HOME"}
    assert set(found) - {"LC_CTYPE"} == own | profile | {"PASSED", "MODE", "API_KEY", "API_TOKEN"}
    assert found["PASSED"] == "yes"
    assert found["MODE"] == "test"
    assert found["API_KEY"] == "[secret API_KEY]"
    assert found["TZ"] == "UTC"
    assert found["HOME"] == str(trial / "tmp")


def test_secret_is_stored_nowhere(run: Run, project: Project) -> None:
    row = run.by_task["tells_the_secret"]
    assert (run.path / row["trial_dir"] / "stderr.log").read_text() == "[secret API_KEY]\n"
    assert row["error_message"] == "[secret API_KEY]"
    assert files_with(run.path, ENCODED) == []
    # The check includes the database and its journal.
    assert (project.home / "relab.db").exists()
    assert files_with(project.home, ENCODED) == []
    exported = project.lab("agent-runs", "timeline", row["agent_run_id"], "--json").out
    assert "[secret API_KEY]" in exported


@pytest.mark.parametrize(
    ("command", "said"),
    [
        (["./nowhere"], "does not exist"),
        pytest.param(["bash", "./scripts/nowhere.sh"], "does not exist", marks=pytest.mark.full),
        pytest.param(["no-such-program-here"], "is not on the PATH", marks=pytest.mark.full),
        (["./data/tasks.jsonl"], "is not executable"),
    ],
)
def test_a_harness_that_cannot_be_run_is_refused_before_the_run(tmp_path: Path, command: list[str], said: str) -> None:
    project = Project.make(tmp_path)
    project.configure(command=command)

    error = project.json("run", code=64)["error"]

    assert error["code"] == "experiment_invalid"
    assert said in error["message"]
    assert project.runs() == []


def test_a_harness_that_cannot_be_started_is_a_row_and_an_unset_secret_is_refused(tmp_path: Path) -> None:
    project = Project.make(tmp_path, tasks=2)
    project.write_harness("#!/no/such/interpreter\n")
    project.configure(command=["./harness"], runtime={"harness": {"secrets": ["API_KEY"]}})

    for value in ({}, {"API_KEY": "short"}):
        error = project.json("run", code=64, **value)["error"]
        assert error["code"] == "experiment_invalid"
        assert "API_KEY" in error["message"]
    assert project.runs() == []
    run = project.run(API_KEY=SECRET)

    assert [(row["error_type"], row["exit_code"]) for row in run.rows.values()] == [("sandbox_error", None)] * 2
    assert all("./harness" in row["error_message"] for row in run.rows.values())


def test_a_failure_of_the_sandbox_is_no_signal_of_the_harness(tmp_path: Path) -> None:
    hung_up = Project.make(tmp_path / "signal", "os.kill(os.getpid(), signal.SIGHUP)\n", tasks=1)
    broken = Project.make(tmp_path / "sandbox", tasks=1)
    broken.write_harness("#!/no/such/interpreter\n")
    broken.configure(command=["./harness"])
    found = {}
    for name, project in (("signal", hung_up), ("sandbox", broken)):
        [row] = project.run().rows.values()
        shown = project.json("trial", "show", f"{row['run_id']}.{row['trial_id']}")
        [evidence] = read_lines(project.runs()[0] / "evidence" / "evidence_records.jsonl")
        statuses = (row["exit_code"], row["metrics"].get("exit_code"), row["status_code"])
        found[name] = (row["error_type"], statuses, evidence["runtime"]["exit_status"], shown["why"])

    assert found["signal"][:3] == ("harness_process_error", (-1, -1, "-1"), "-1")
    assert "the harness was ended by signal 1" in found["signal"][3]
    assert found["sandbox"][:3] == ("sandbox_error", (None, None, "sandbox_error"), "sandbox_error")
    assert "signal" not in " ".join(found["sandbox"][3])


def test_runner_does_not_follow_a_link_in_carried_state(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    leading = (
        "own = Path(paths['state'], 'own')\nown.rename(own.with_name('was'))\n"
        "own.symlink_to(bindings['outside'])\nanswer()\n"
    )
    project = Project.make(tmp_path, leading, tasks=2)
    project.configure(
        baseline={"bindings": {"outside": str(outside)}},
        design={"policies": {"state": "accumulate"}},
        runtime={"harness": {"control_plane": {"path": "/state/own/deep/lab_control.json"}}},
    )

    run = project.run()

    assert run.rows["trial_1"]["outcome"] == "success"
    assert run.rows["trial_2"]["error_type"] == "workspace_error"
    assert "leads out of the trial's folder" in run.rows["trial_2"]["error_message"]
    assert list(outside.iterdir()) == []


@pytest.mark.parametrize("mode", ["local", "bwrap"])
def test_link_in_place_of_the_output_folder_exposes_no_file_of_the_host(tmp_path: Path, mode: str) -> None:
    if mode == "bwrap":
        require_program("bwrap", INSTALL)
    outside = tmp_path / "outside"
    outside.mkdir()
    harness = """
folder = output.parent
folder.rename(folder.with_name("was"))
folder.symlink_to(bindings["outside"])
"""
    project = Project.make(tmp_path, harness, tasks=1)
    project.configure(
        baseline={"bindings": {"outside": str(outside)}},
        design={"policies": {"retry": {"max_attempts": 1}}},
        runtime={
            "sandbox": {"mode": mode},
            "network": {"mode": "none" if mode == "bwrap" else "full"},
            "harness": {
                "output_path": "/out/deep/trial_output.json",
                "events": {"path": "/out/deep/harness_events.jsonl"},
            },
        },
    )
    # The run starts with folders of its own; only the link leads to these files.
    (outside / "trial_output.json").write_text(json.dumps({"password": TOKEN}))
    (outside / "harness_events.jsonl").write_text(json.dumps({"password": TOKEN}) + "\n")

    run = project.run()

    (row,) = run.rows.values()
    assert row["outcome"] == "error"
    assert row["error_type"] == "invalid_trial_output"
    assert row["hook_events_total"] == 0
    assert row["hook_events_invalid"] == 0
    assert files_with(run.path, [TOKEN.encode()]) == []
    (evidence,) = map(json.loads, (run.path / "evidence/evidence_records.jsonl").read_text().splitlines())
    assert "hook_events_ref" not in evidence["evidence"]


@pytest.mark.full
def test_folders_without_permissions_are_read_and_deleted(tmp_path: Path) -> None:
    harness = """
for folder in (Path("closed"), Path(paths["state"], "closed"), Path(paths["tmp"], "closed")):
    (folder / "deep").mkdir(parents=True)
    (folder / "deep" / "secret.txt").write_text(os.environ["API_KEY"])
    (folder / "deep" / "secret.txt").chmod(0)
    (folder / "deep").chmod(0)
    folder.chmod(0)
answer("success" if ids["repl_idx"] else "failure")
Path(paths["out"]).chmod(0)
Path(paths["workspace"]).chmod(0)
"""
    project = Project.make(tmp_path, harness, tasks=1)
    project.configure(design={"replications": 2}, runtime={"harness": {"secrets": ["API_KEY"]}})

    run = project.run("--keep-workspaces", "failed", under=without_privileges(), API_KEY=SECRET)

    assert [(row["outcome"], row["error_type"]) for row in run.rows.values()] == [("failure", None), ("success", None)]
    assert files_with(run.path, ENCODED) == []
    assert (run.trial("trial_1") / "workspace/closed/deep/secret.txt").read_text() == "[secret API_KEY]"
    assert not (run.trial("trial_2") / "workspace").exists()
