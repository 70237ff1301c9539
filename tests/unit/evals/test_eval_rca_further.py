"""The evaluation on further harnesses: its adapters, its halves, and absent files."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import duckdb
import pytest

from evals.rca.__main__ import main
from evals.rca.further import measure_further, read_further
from evals.rca.further_cases import (
    agent_error_bench,
    agent_process_bench,
    as_calls,
    as_messages,
    halves,
    tracer_traj,
)


def asked(tool: str, **arguments: object) -> dict[str, Any]:
    call = {"id": "1", "function": {"name": tool, "arguments": json.dumps(arguments)}}
    return {"role": "assistant", "content": None, "tool_calls": [call]}


def answered(verdict: int, number: int = 0) -> dict[str, Any]:
    return {
        "total_index": number,
        "question": f"question {number}",
        "ground_truth": "SECRET",
        "messages": [
            {"role": "user", "content": f"question {number}"},
            asked("search", query="x"),
            {"role": "tool", "content": "Error: no index"},
            {"role": "assistant", "content": "an answer"},
        ],
        "step_labels": {"1": 1, "3": verdict},
        "final_label": verdict,
    }


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    place = tmp_path / "agent-process-bench"
    place.mkdir()
    lines = [json.dumps(answered(-1 if number % 2 else 1, number)) for number in range(8)]
    (place / "hotpotqa.jsonl").write_text("\n".join(lines), encoding="utf-8")
    return tmp_path


def test_the_first_wrong_step_of_a_wrong_answer_is_the_label(folder: Path) -> None:
    cases = list(agent_process_bench(folder, as_calls))
    assert [case.truth.step_id for case in cases[:2]] == [None, "turn-3"]
    assert "SECRET" not in json.dumps(cases[1].body)


def test_messages_become_steps_and_calls(folder: Path) -> None:
    run = next(agent_process_bench(folder, as_calls)).run
    assert [item.step_id for item in run.steps] == ["turn-1", "turn-3"]
    assert [(item.tool_name, item.status, item.step_id) for item in run.tool_calls] == [("search", "failure", "turn-1")]


def test_plain_messages_are_steps_of_their_roles(folder: Path) -> None:
    run = next(agent_process_bench(folder, as_messages)).run
    assert [item.agent_name for item in run.steps] == ["user", "assistant", "tool", "assistant"]
    assert '"name": "search"' in (run.steps[1].output_summary or "")


def test_halves_do_not_share_a_task_and_keep_labelled_cases(folder: Path) -> None:
    parts = halves(list(agent_process_bench(folder, as_calls)))
    tasks = [{case.group for case in part} for part in parts.values()]
    assert not tasks[0] & tasks[1]
    assert sum(map(len, tasks)) == 4


def test_an_action_of_agent_error_bench_has_the_next_observation_as_its_result(tmp_path: Path) -> None:
    place = tmp_path / "agent-error-bench"
    (place / "GAIA").mkdir(parents=True)
    label = {"trajectory_id": "M_001_e1-a", "critical_failure_step": 2}
    (place / "gaia_labels.json").write_text(json.dumps([label]), encoding="utf-8")
    messages = [
        {"role": "user", "content": "Task: x"},
        {"role": "assistant", "content": '<action>\ntool: search\nparameters: {"query": "x"}\n</action>'},
        {"role": "user", "content": "Current Observation: three results\nInstructions: go on"},
        {"role": "assistant", "content": "<answer>y</answer>"},
    ]
    (place / "GAIA" / "M_001_e1-a.json").write_text(json.dumps({"messages": messages}), encoding="utf-8")
    (case,) = agent_error_bench(tmp_path)
    assert case.truth.step_id == case.run.steps[1].step_id
    assert case.run.steps[0].input_summary == "Task: x"
    assert [call.result_summary for call in case.run.tool_calls] == ["three results"]


def test_entries_of_tracer_traj_are_steps_of_their_agents(tmp_path: Path) -> None:
    (tmp_path / "tracer-traj").mkdir()
    path = tmp_path / "tracer-traj" / "tracertraj-code-test.parquet"
    entries = "[{'content': 'plan', 'name': 'Leader'}, {'content': 'code', 'name': 'Engineer'}]"
    duckdb.execute(
        f"copy (select 'q' as question, {entries} as history, '1' as mistake_step, 'Engineer' as mistake_agent)"
        f" to '{path}' (format parquet)"
    )
    (case,) = tracer_traj(tmp_path)
    assert [step.agent_name for step in case.run.steps] == ["Leader", "Engineer"]
    assert (case.truth.step_id, case.truth.agent) == ("turn-1", "Engineer")


def test_each_half_has_the_figures_of_relab_and_of_the_rules(folder: Path) -> None:
    found = dict(read_further(folder))
    tables, problems = measure_further(found["AgentProcessBench HotpotQA as tool calls"])
    assert problems == []
    assert {"relab, source not known", "last step"} <= set(tables["held out"])
    assert found["TracerTraj code"] == []


def test_sets_that_are_not_there_are_left_out_by_name(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--further", str(tmp_path)]) == 0
    printed = capsys.readouterr()
    assert "TracerTraj code: left out" in printed.err
    assert printed.out == ""
