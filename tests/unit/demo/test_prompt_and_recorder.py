"""Prompts, read from their text, and the recorder of steps, calls and errors."""

from __future__ import annotations

import httpx
import pytest

from demo.prompt import PROMPT_V1, PROMPT_V2, Instruction, Prompt
from demo.recorder import GENERIC_ERROR, MAX_TEXT_LENGTH, OutsideRecorder, Recorder, clip, describe, hash_of
from demo.tools import TOOLS

IDENTITY = {"agent_run_id": "run-1", "agent_name": "desk", "agent_version": "1", "prompt_hash": "p", "task_id": "t"}


def http_error(status, body, headers=()):
    request = httpx.Request("GET", "http://127.0.0.1/x")
    response = httpx.Response(status, text=body, headers=dict(headers), request=request)
    return httpx.HTTPStatusError("as httpx words it", request=request, response=response)


def test_a_prompt_is_read_from_its_text():
    prompt = Prompt(
        "7", "Ship: pack, label for each box, ask until ready\nMake at most 9 tool calls.\nWait at most 1.5 s now."
    )
    assert prompt.playbook("Ship") == (
        Instruction("pack"),
        Instruction("label", each="box"),
        Instruction("ask", until_ready=True),
    )
    assert prompt.max_calls == 9
    assert prompt.patience_s == 1.5


@pytest.mark.parametrize("text", ["", "Ship: pack!", "Ships: pack", "Ship: for each box"])
def test_a_playbook_that_is_missing_or_unreadable_is_an_error(text):
    with pytest.raises(ValueError, match="the prompt 7"):
        Prompt("7", text).playbook("Ship")


def test_a_missing_limit_is_an_error():
    with pytest.raises(ValueError, match="prompt 7"):
        _ = Prompt("7", "").max_calls


def test_the_second_prompt_changes_one_playbook_and_so_its_hash():
    first, second = PROMPT_V1.text.splitlines(), PROMPT_V2.text.splitlines()
    assert [(old, new) for old, new in zip(first, second, strict=True) if old != new] == [
        ("Order status: find_customer, find_order", "Order status: search_help")
    ]
    assert PROMPT_V1.hash != PROMPT_V2.hash


def test_every_tool_of_the_prompts_exists():
    for prompt in (PROMPT_V1, PROMPT_V2):
        topics = [line.split(":")[0] for line in prompt.text.splitlines() if ":" in line]
        assert topics
        for topic in topics:
            for instruction in prompt.playbook(topic):
                assert instruction.tool in TOOLS


def test_http_error_is_described_by_the_response():
    error = http_error(429, '{"error": "slow down"}', [("Retry-After", "7")])
    assert describe(error) == (
        "HTTPStatusError",
        '429 Too Many Requests: {"error": "slow down"} Retry-After: 7',
        429,
    )


def test_another_error_is_described_by_its_class_and_message():
    assert describe(httpx.ConnectError("refused")) == ("ConnectError", "refused", None)


def test_error_is_recorded_at_its_step_and_call_and_raised_again():
    recorder = Recorder(**IDENTITY)

    def act():
        with recorder.step("Act", "input") as step:
            with recorder.tool_call(step, "good", {"a": "1"}) as call:
                call.result_summary = "fine"
            with recorder.tool_call(step, "bad", {"a": "1"}):
                raise http_error(503, "closed")

    with pytest.raises(httpx.HTTPStatusError):
        act()
    run = recorder.finish(None)
    assert [(step["name"], step["status"]) for step in run["steps"]] == [("Act", "failure")]
    assert [(call["tool_name"], call["status"], call["status_code"]) for call in run["tool_calls"]] == [
        ("good", "success", None),
        ("bad", "failure", 503),
    ]
    assert run["tool_calls"][0]["args_hash"] == run["tool_calls"][1]["args_hash"] == hash_of({"a": "1"})
    assert run["status"] == "success"


def test_outside_recorder_hides_details_of_the_inside_one():
    runs = []
    for kind in (Recorder, OutsideRecorder):
        recorder = kind(**IDENTITY)
        with recorder.step("Act", "input") as step:
            recorder.guardrail("budget", "spent", step)
        runs.append(recorder.finish(ValueError("a secret reason")))
    inside, outside = runs
    assert inside["error_type"] == "ValueError"
    assert inside["error_message"] == "a secret reason"
    assert len(inside["guardrail_events"]) == 1
    assert outside["error_type"] is None
    assert outside["error_message"] == GENERIC_ERROR
    assert outside["guardrail_events"] == []
    assert outside["status"] == "failure"
    assert OutsideRecorder(**IDENTITY).finish(None)["error_message"] is None


def test_long_texts_are_cut():
    assert clip("x" * MAX_TEXT_LENGTH) == "x" * MAX_TEXT_LENGTH
    assert clip("x" * (MAX_TEXT_LENGTH + 1)) == "x" * (MAX_TEXT_LENGTH - 1) + "…"
