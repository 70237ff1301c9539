"""Runs that end before their last trial, by a clear result or a ceiling of the budget, and their continuation."""

from __future__ import annotations

from pathlib import Path

import pytest

from support.experiments.projects import Project, Run

HARNESS = """\
is_solved = bindings["good"] or int(ids["task_id"][-1]) % 4 == 0
answer("success" if is_solved else "failure", metrics={"cost_usd": 0.25})
"""


@pytest.fixture
def project(tmp_path: Path) -> Project:
    made = Project.make(tmp_path, HARNESS, tasks=40)
    made.configure(
        baseline={"bindings": {"good": False}},
        variant_plan=[{"variant_id": "better", "bindings": {"good": True}}],
        design={
            "max_concurrency": 2,
            "shuffle_tasks": True,
            "policies": {"stopping": {"metric": "success"}, "budget": {"max_trials": 7}},
        },
    )
    return made


@pytest.mark.full
def test_a_ceiling_ends_a_run_cleanly_and_a_clear_result_ends_its_continuation(project: Project) -> None:
    first = project.json("run", "--no-telemetry", code=75)
    run = Run(Path(first["run"]["run_dir"]))

    assert first["finished"] is False
    assert first["exit_code"] == 75
    assert "max_trials" in first["budget_reached"]
    assert first["trials"] == {"total": 80, "done": 7}
    assert run.json("runtime/run_control.json")["status"] == "budget_reached"
    assert project.json("experiments", "list")["runs"][0]["status"] == "budget_reached"

    # The ceiling stays until it is raised; then another one is reached.
    again = project.json("run", "--continue", str(run.path), "--no-telemetry", code=75)
    assert again["trials"]["done"] == 7
    dear = ("--max-trials", "0", "--max-cost-usd", "2.5")
    costly = project.json("run", "--continue", str(run.path), *dear, "--no-telemetry", code=75)
    assert "max_cost_usd" in costly["budget_reached"]
    # Ten trials cost 2.50 USD; a trial that ran beside the tenth has a result, too.
    assert costly["trials"]["done"] in {10, 11}
    assert project.json("compare", str(run.path), code=2)["verdict"] == "INVALID"

    last = project.json("run", "--continue", str(run.path), "--max-cost-usd", "0", "--no-telemetry")
    (decision,) = last["stopping"]["decisions"]

    assert last["finished"] is True
    assert (decision["variant"], decision["finding"], decision["better"]) == ("better", "higher", True)
    assert last["trials"]["done"] + last["stopping"]["trials_not_needed"] == 80
    assert last["trials"]["done"] < 80
    assert len(run.rows) == last["trials"]["done"]
    assert run.json("runtime/run_control.json")["status"] == "completed"
    assert decision["reason"] in (run.path / "journal.jsonl").read_text()
    assert decision["reason"] in (run.path / "analysis" / "report.html").read_text()
    assert run.json("analysis/stopping.json")["stopped_early"] is True

    compared = project.json("compare", str(run.path))
    (result,) = compared["results"]
    assert compared["verdict"] == "PASS"
    assert result["interval"] == decision["interval"]
    assert "always-valid" in project.lab("compare", str(run.path)).out
    # A decided run has no trials left to run.
    done = project.json("run", "--continue", str(run.path), "--no-telemetry")
    assert done["trials"] == last["trials"]
    assert done["stopping"] == last["stopping"]
    assert project.json("experiments", "verify", str(run.path))["whole"] is True
    stopping = run.path / "analysis" / "stopping.json"
    stopping.write_text(stopping.read_text().replace('"tasks": ', '"tasks": 1'))
    assert project.json("compare", str(run.path), code=2)["error"]["code"] == "run_damaged"


def test_invalid_ceilings_are_rejected_and_start_no_run(project: Project) -> None:
    for option in ("--max-trials", "--max-cost-usd", "--max-seconds"):
        answer = project.json("run", option, "-1", "--no-telemetry", code=64)
        assert answer["error"]["code"] == "ceiling_invalid"

    assert project.runs() == []


def test_run_ends_at_its_time_ceiling(project: Project) -> None:
    answer = project.json("run", "--max-seconds", "0.000001", "--no-telemetry", code=75)

    assert "max_seconds" in answer["budget_reached"]
    assert answer["trials"]["done"] == 0


def test_run_whose_first_trials_end_in_the_same_error_stops_and_continues_once_it_is_corrected(tmp_path: Path) -> None:
    project = Project.make(
        tmp_path, "import os\nanswer(*([] if os.path.exists(bindings['key']) else ['odd']))\n", tasks=30
    )
    project.configure(baseline={"bindings": {"key": str(tmp_path / "key")}})
    first = project.lab("run", "--no-telemetry", code=75)
    run = Run(next((project.root / ".lab" / "runs").iterdir()))

    assert "the first 10 trials ended in the same error (max_first_errors): invalid_trial_output" in first.err
    assert "--retry-errors after the cause is corrected" in first.err
    # A continuation counts anew; without the ceiling, all trials run.
    again = project.json("run", "--continue", str(run.path), "--max-first-errors", "2", "--no-telemetry", code=75)
    assert again["trials"]["done"] == 12
    (tmp_path / "key").touch()
    last = project.json("run", "--continue", str(run.path), "--retry-errors", "--no-telemetry")
    assert last["finished"] is True
    assert {row["outcome"] for row in run.rows.values()} == {"success"}


def test_continuation_reads_the_ids_of_tasks_from_the_configured_field(tmp_path: Path) -> None:
    rows = [{"instance_id": f"django/django-{number}", "problem_statement": "It fails."} for number in range(3)]
    project = Project.make(tmp_path, tasks=rows)
    dataset = {"path": "../data/tasks.jsonl", "task_id_field": "instance_id"}
    project.configure(dataset=dataset, design={"policies": {"budget": {"max_trials": 1}}})
    project.json("run", "--no-telemetry", code=75)
    run = Run(next((project.root / ".lab" / "runs").iterdir()))

    project.json("run", "--continue", str(run.path), "--max-trials", "0", "--no-telemetry")

    assert set(run.by_task) == {"django-django-0", "django-django-1", "django-django-2"}
