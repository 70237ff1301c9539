"""Retries, pruning, the order of trials, and state that is carried from trial to trial."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from support.experiments.projects import Project, answering, read_lines

COUNTING = """\
counter = Path(bindings["meet"], ids["task_id"])
attempt = len(counter.read_text()) + 1 if counter.exists() else 1
counter.write_text("x" * attempt)
assert not Path("left").exists() and not output.exists()
Path("left").write_text("by an earlier attempt")
Path(paths["state"], "attempt").write_text(str(attempt))
"""


def test_earlier_attempts_are_kept_apart_and_do_not_affect_the_last_one(tmp_path: Path) -> None:
    does = {
        "settles": "sys.exit(3) if attempt < 3 else answer()",
        "spoils": "output.write_text('{') if attempt == 1 else sys.exit(3)",
        "is_slow": "time.sleep(600) if attempt == 1 else answer()",
        "fails": "answer('failure')",
    }
    cases = "".join(f"if ids['task_id'] == {task!r}:\n    {code}\n" for task, code in does.items())
    project = Project.make(tmp_path, COUNTING + cases, tasks=[{"task_id": name} for name in does])
    project.configure(
        design={"max_concurrency": 2, "policies": {"retry": {"max_attempts": 3}}},
        baseline={"bindings": {"meet": str(tmp_path)}},
        runtime={"timeouts": {"trial_seconds": 5}},
    )

    run = project.run()

    found = {task: (row["outcome"], row["error_type"], row["attempts"]) for task, row in run.by_task.items()}
    assert found == {
        "settles": ("success", None, 3),
        "spoils": ("error", "harness_process_error", 3),
        "is_slow": ("success", None, 2),
        "fails": ("failure", None, 1),
    }
    spoils = run.path / run.by_task["spoils"]["trial_dir"]
    assert (spoils / "attempts" / "1" / "out" / "trial_output.json").read_text() == "{"
    assert [(spoils / "attempts" / str(n) / "state" / "attempt").read_text() for n in (1, 2)] == ["1", "2"]
    assert not (spoils / "out" / "trial_output.json").exists()
    assert json.loads((spoils / "trial_output.json").read_bytes())["error"]["error_type"] == "harness_process_error"
    assert not (run.path / run.by_task["fails"]["trial_dir"] / "attempts").exists()


def test_variant_that_keeps_failing_is_pruned_and_only_failed_workspaces_stay(tmp_path: Path) -> None:
    project = Project.make(tmp_path, "answer('failure' if ids['variant_id'] == 'bad' else 'success')", tasks=4)
    project.configure(
        variant_plan=[{"variant_id": "bad"}],
        design={"policies": {"scheduling": "variant_sequential", "pruning": {"max_consecutive_failures": 2}}},
    )

    run = project.run("--keep-workspaces", "failed")

    rows = [run.rows[f"trial_{number}"] for number in range(1, 9)]
    assert [row["variant_id"] for row in rows] == ["control"] * 4 + ["bad"] * 4
    assert [row["outcome"] for row in rows] == ["success"] * 4 + ["failure"] * 2 + ["missing"] * 2
    assert [row["error_type"] for row in rows[6:]] == ["pruned"] * 2
    kept = {row["trial_id"] for row in rows if (run.trial(row["trial_id"]) / "workspace").exists()}
    assert kept == {"trial_5", "trial_6"}


@pytest.mark.full
def test_randomized_schedule_is_the_described_one_and_no_workspace_stays(tmp_path: Path) -> None:
    project = Project.make(tmp_path, tasks=5)
    # A harness can be any program: this one is a script for /bin/sh, started by its path.
    project.write_harness(answering())
    design = {"replications": 2, "random_seed": 7, "policies": {"scheduling": "randomized"}}
    project.configure(command=["./harness"], variant_plan=[{"variant_id": "treatment"}], design=design)

    planned = project.json("describe")["summary"]["first_trials"]
    run = project.run("--keep-workspaces", "none")

    names = ("trial_id", "variant_id", "task_id", "repl_idx")
    journal = run.journal()
    assert [{name: row[name] for name in names} for row in journal[:6]] == planned
    assert [row["outcome"] for row in journal] == ["success"] * 20
    assert [row["task_index"] for row in journal] != sorted(row["task_index"] for row in journal)
    assert len({(row["variant_id"], row["task_id"], row["repl_idx"]) for row in journal}) == 20
    assert list(run.path.glob("trials/*/workspace")) == []


@pytest.mark.parametrize("policy", ["persist_per_task", pytest.param("accumulate", marks=pytest.mark.full)])
def test_state_is_carried_along_its_chain_in_order(tmp_path: Path, policy: str) -> None:
    harness = (
        "logs = [Path('seen'), Path(paths['state'], 'seen')]\n"
        "before = [log.read_text().split() if log.exists() else [] for log in logs]\n"
        "for log in logs:\n    log.open('a').write(ids['trial_id'] + '\\n')\n"
        "answer(answer=before)\n"
    )
    project = Project.make(tmp_path, harness, tasks=3)
    design = {"replications": 3, "max_concurrency": 4, "policies": {"state": policy}}
    project.configure(variant_plan=[{"variant_id": "treatment"}], design=design)

    run = project.run()

    chains: dict[Any, list[str]] = {}
    for number in range(1, 19):
        row = run.rows[f"trial_{number}"]
        chain = chains.setdefault((row["variant_id"], policy == "accumulate" or row["task_id"]), [])
        output = json.loads((run.trial(row["trial_id"]) / "trial_output.json").read_bytes())
        assert output["answer"] == [chain, chain]
        chain.append(row["trial_id"])
    states = read_lines(run.path / "evidence" / "task_chain_states.jsonl")
    assert sorted(state["step_index"] for state in states) == sorted(
        index for chain in chains.values() for index in range(len(chain))
    )
