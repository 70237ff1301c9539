"""`lab trials`, `lab trial show` and `lab trial diff` on runs whose trials differ in known ways."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from support.experiments.projects import Project, Run

WORKING = """\
print("\\x1b[31mworking\\x1b[0m on", ids["task_id"])
for line in range(100):
    print("line", line)
event("agent_step_start", step_index=0)
if bindings.get("eager"):
    event("tool_call_end", call_id="1", tool={"name": "search"}, outcome={"status": "ok"})
event("agent_step_end", step_index=0, budgets={"steps": 1})
Path("notes.txt").write_text("found by " + ids["variant_id"] + "\\nkept\\n")
Path("same.txt").write_text("alike\\n")
Path("README").unlink()
if bindings.get("eager"):
    Path("more.txt").write_text("more\\n")
if task.get("breaks"):
    print("no such thing", file=sys.stderr)
    sys.exit(3)
answer("success" if bindings.get("eager") else "failure", answer={"by": ids["variant_id"]}, metrics={"score": len(bindings)})
"""


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Project:
    made = Project.make(
        tmp_path_factory.mktemp("trials"), WORKING, tasks=[{"task_id": "plain"}, {"task_id": "broken", "breaks": True}]
    )
    (made.root / "README").write_text("read me\n")
    (made.root / "notes.txt").write_text("nothing yet\nkept\n")
    made.configure(
        variant_plan=[{"variant_id": "eager", "bindings": {"eager": True}}],
        runtime={"harness": {"integration_level": "cli_events"}},
    )
    return made


@pytest.fixture(scope="module")
def run(project: Project) -> Run:
    return project.run(code=None)


def trial_of(run: Run, variant: str, task: str) -> str:
    """Return the name of the trial of a variant and a task."""
    (found,) = [row["trial_id"] for row in run.rows.values() if (row["variant_id"], row["task_id"]) == (variant, task)]
    return f"{run.path.name}.{found}"


def test_trials_are_listed_by_outcome_and_variant(project: Project, run: Run) -> None:
    everything = project.json("trials", run.path.name)
    errors = project.json("trials", str(run.path), "--outcome", "error")
    one = project.json("trials", run.path.name, "--variant", "eager", "--task", "plain")

    assert everything["total"] == 4
    assert {row["task_id"] for row in errors["trials"]} == {"broken"}
    assert errors["total"] == 2
    (row,) = one["trials"]
    assert row["outcome"] == "success"
    assert project.json("trials", run.path.name, "--limit", "1")["total"] == 4


def test_trial_is_shown_with_its_documents_changes_and_reasons(project: Project, run: Run) -> None:
    found = project.json("trial", "show", trial_of(run, "control", "plain"))

    assert found["status"] == "ended"
    assert found["input"]["task"] == {"task_id": "plain"}
    assert found["output"]["answer"] == {"by": "control"}
    assert [event["event_type"] for event in found["events"]["last"]] == ["agent_step_start", "agent_step_end"]
    assert found["stdout"].splitlines()[-1] == "line 99"
    assert len(found["stdout"].splitlines()) == 40
    assert [item["path"] for item in found["changes"]["modified"]] == ["notes.txt"]
    assert [item["path"] for item in found["changes"]["added"]] == ["same.txt"]
    assert [item["path"] for item in found["changes"]["removed"]] == ["README"]
    patches = {item["path"]: item["patch"].splitlines() for item in found["patches"]}
    assert "-nothing yet" in patches["notes.txt"]
    assert "+found by control" in patches["notes.txt"]
    assert " kept" in patches["notes.txt"]


def test_error_is_shown_with_its_reason_and_the_end_of_stderr(project: Project, run: Run) -> None:
    name = trial_of(run, "control", "broken")

    found = project.json("trial", "show", name)
    text = project.lab("trial", "show", str(run.trial(name.rpartition(".")[2]))).out

    (problem,) = [reason for reason in found["why"] if reason.startswith("harness_process_error: ")]
    assert problem.endswith("; standard error ends with: no such thing")
    assert "the harness ended with code 3" in found["why"]
    assert found["stderr"] == "no such thing"
    assert "why: harness_process_error" in text
    assert "no such thing" in text
    assert "\x1b" not in text


def test_two_trials_of_a_task_are_compared(project: Project, run: Run) -> None:
    found = project.json("trial", "diff", trial_of(run, "control", "plain"), trial_of(run, "eager", "plain"))

    assert found["same_task"] is True
    assert found["rows"]["outcome"] == ["failure", "success"]
    assert found["metrics"]["score"] == [0, 1]
    assert found["answers"] == [{"by": "control"}, {"by": "eager"}]
    assert "+tool_call_end · tool search · outcome ok" in found["events"]["diff"]
    files = {item["path"]: item for item in found["files"]}
    assert files["same.txt"]["changed"] == "alike"
    assert files["README"]["changed"] == "alike"
    assert files["more.txt"]["changed"] == "only in the second"
    assert files["notes.txt"]["changed"] == "different"
    assert "-found by control" in files["notes.txt"]["patch"].splitlines()
    assert "+found by eager" in files["notes.txt"]["patch"].splitlines()
    text = project.lab("trial", "diff", trial_of(run, "control", "plain"), trial_of(run, "eager", "plain")).out
    assert "only in the second" in text


def test_comparison_of_trials_of_different_tasks_prints_a_warning(project: Project, run: Run) -> None:
    done = project.lab("trial", "diff", trial_of(run, "control", "plain"), trial_of(run, "control", "broken"))

    assert "different tasks" in done.err


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (("trials", "nothing"), "run_not_found"),
        (("trials", "RUN", "--outcome", "good"), "invalid_input"),
        (("trial", "show", "nothing"), "trial_not_found"),
        (("trial", "show", "nothing.trial_1"), "run_not_found"),
        (("trial", "show", "RUN.trial_99"), "trial_not_found"),
        (("trial", "show", "RUN..."), "trial_not_found"),
        (("trial", "diff", "RUN.trial_1", "RUN.trial_99"), "trial_not_found"),
    ],
)
def test_missing_run_or_trial_is_a_named_error(
    project: Project, run: Run, arguments: tuple[str, ...], code: str
) -> None:
    given = [argument.replace("RUN", run.path.name) for argument in arguments]

    assert project.lab(*given, "--json", code=None).json["error"]["code"] == code


def test_links_and_odd_files_of_a_harness_are_not_followed(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("not for you")
    project = Project.make(
        tmp_path,
        f"""\
os.symlink({str(secret)!r}, "link")
Path("binary").write_bytes(b"\\0\\1")
Path("large").write_text("x" * 100_000)
answer()
root = Path(paths["out"]).parent
(root / "stdout.log").unlink()
os.symlink({str(secret)!r}, root / "stdout.log")
""",
        tasks=1,
    )
    run = project.run(code=None)

    found = project.lab("trial", "show", f"{run.path.name}.trial_1", "--json").out

    assert "not for you" not in found
    shown = json.loads(found)
    assert shown["stdout"] == ""
    assert {item["path"] for item in shown["changes"]["added"]} == {"link", "binary", "large"}
    assert shown["patches"] == []
