"""The Who&When converter on small conversations shaped like those of both subsets."""

from __future__ import annotations

import json
from typing import Any

import pytest

from evals.datasets.who_and_when import ALGORITHM_GENERATED, HAND_CRAFTED, Subset, agent_run_of_conversation
from relab.core.json import parse_json
from relab.telemetry.models import AgentRun, RunStatus, StepStatus

LABELS = {
    "mistake_agent": "SECRET agent",
    "mistake_step": "SECRET step",
    "mistake_reason": "SECRET reason",
    "mistake_type": "SECRET type",
    "ground_truth": "SECRET answer",
    "labels": "SECRET labels",
}
CODE = "Run this.\n```python\nprint(rows)\n```"
TRACEBACK = (
    "Traceback (most recent call last):\n"
    '  File "/home/team/job.py", line 3, in <module>\n'
    "    print(rows)\n"
    "NameError: name 'rows' is not defined\n"
)
CRASH = (
    "I scrolled down.\nError processing publish message\nTraceback (most recent call last):\n"
    '  File "/lib/runtime.py", line 410, in _process\n    await run()\n'
    "httpx.RemoteProtocolError: Server disconnected\n"
    "\nThe above exception was the direct cause of the following exception:\n\n"
    'Traceback (most recent call last):\n  File "/lib/client.py", line 9, in create\n    raise error\n'
    "openai.APIConnectionError: Connection error.\nFINAL ANSWER: 5\n"
)


def algorithm_generated(*turns: tuple[str, str]) -> AgentRun:
    history = [{"name": name, "role": "user", "content": content} for name, content in turns]
    return converted(history, ALGORITHM_GENERATED)


def hand_crafted(*turns: tuple[str, str]) -> AgentRun:
    return converted([{"role": role, "content": content} for role, content in turns], HAND_CRAFTED)


def converted(history: list[dict[str, Any]], subset: Subset) -> AgentRun:
    record = {"history": history, "question": "?", "question_ID": "q-1", "is_correct": False, **LABELS}
    text = json.dumps(agent_run_of_conversation(record, subset, "12"))
    assert "SECRET" not in text, "a label reached the body"
    return AgentRun.model_validate(parse_json(text.encode()))


def test_every_turn_is_the_step_of_its_index() -> None:
    run = algorithm_generated(("Excel_Expert", "plan"), ("Data_Expert", "done"))
    assert [(step.step_id, step.agent_name, step.output_summary) for step in run.steps] == [
        ("turn-0", "Excel_Expert", "plan"),
        ("turn-1", "Data_Expert", "done"),
    ]
    assert run.run_id == "who-and-when-algorithm-12"
    assert run.task_id == "q-1"
    assert run.status == RunStatus.FAILURE
    assert run.steps[0].started_at < run.steps[1].started_at


def test_hand_crafted_speaker_is_read_from_the_role() -> None:
    run = hand_crafted(("human", "?"), ("Orchestrator (-> WebSurfer)", "search"), ("WebSurfer", "found"))
    assert [(step.name, step.agent_name) for step in run.steps] == [
        ("human", "human"),
        ("Orchestrator (-> WebSurfer)", "Orchestrator"),
        ("WebSurfer", "WebSurfer"),
    ]
    assert run.run_id == "who-and-when-hand-12"


def test_a_script_is_a_tool_call_of_the_turn_that_wrote_it() -> None:
    report = "exitcode: 0 (execution succeeded)\nCode output: 4\n"
    run = algorithm_generated(("Expert", CODE), ("Expert", "Please run it."), ("Computer_terminal", report))
    (call,) = run.tool_calls
    assert call.call_id == "call-2"
    assert call.step_id == "turn-0"
    assert call.status == StepStatus.SUCCESS
    assert call.args_json == {"code": ["print(rows)\n"]}
    assert call.result_summary == "4\n"
    assert call.error_message is None


def test_a_script_that_failed_gives_its_exception() -> None:
    report = f"exitcode: 1 (execution failed)\nCode output: {TRACEBACK}"
    run = algorithm_generated(("Expert", CODE), ("Computer_terminal", report))
    (call,) = run.tool_calls
    assert call.status == StepStatus.FAILURE
    assert call.error_class == "NameError"
    assert call.error_message == "name 'rows' is not defined"
    assert call.result_summary == TRACEBACK
    assert [step.status for step in run.steps] == [StepStatus.SUCCESS] * 2, "the call failed, not a turn"


def test_a_script_that_failed_without_exception_gives_its_whole_output() -> None:
    report = "exitcode: 124 (execution failed)\nCode output: \nTimeout"
    (call,) = algorithm_generated(("Expert", CODE), ("Computer_terminal", report)).tool_calls
    assert call.error_class is None
    assert call.error_message == "\nTimeout"


@pytest.mark.parametrize(
    ("report", "output"),
    [
        ("The script ran, then exited with Unix exit code: 0\nIts output was:\nTotal: 3", "Total: 3"),
        ("The script ran but produced no output to console. The Unix exit code was: 0. Consider printing.", ""),
    ],
)
def test_report_of_the_hand_crafted_executor_is_parsed(report: str, output: str) -> None:
    (call,) = hand_crafted(("Assistant", CODE), ("ComputerTerminal", report)).tool_calls
    assert call.status == StepStatus.SUCCESS
    assert call.result_summary == output


@pytest.mark.parametrize(
    "turn",
    [
        ("Computer_terminal", "There is no code from the last 1 message for me to execute."),
        ("Expert", "exitcode: 1 (execution failed)\nCode output: as I feared"),
        ("Computer_terminal", "I saw exitcode: 1 (execution failed)\nCode output: before"),
    ],
)
def test_a_turn_that_only_mentions_a_script_is_no_call(turn: tuple[str, str]) -> None:
    assert algorithm_generated(("Expert", CODE), turn).tool_calls == []


def test_the_run_fails_with_the_last_exception_of_its_runtime() -> None:
    run = hand_crafted(("human", "?"), ("WebSurfer", CRASH))
    assert run.error_type == "openai.APIConnectionError"
    assert run.error_message == "Connection error."


def test_a_traceback_that_an_agent_read_is_not_the_error_of_the_run() -> None:
    run = hand_crafted(("human", "?"), ("WebSurfer", f"The page shows:\n{TRACEBACK}"))
    assert run.error_type is None
    assert run.error_message is None


def test_a_limit_that_stopped_the_run_is_its_error() -> None:
    run = hand_crafted(("Orchestrator (termination condition)", "Max time (1500s) reached.\nFINAL ANSWER: 7"))
    assert run.error_type is None
    assert run.error_message == "Max time (1500s) reached."
