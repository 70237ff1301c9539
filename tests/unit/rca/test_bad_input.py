"""Malformed runs: each gets a report with verbatim evidence, or an abstention, and never raises an exception."""

from __future__ import annotations

import random
from typing import Any

import pytest

from relab.rca.analyzer import analyze
from relab.rca.models import Confidence
from relab.rca.notes.composition import compose_note
from relab.rca.notes.markdown import to_markdown
from relab.telemetry.models import AgentRun
from support.rca.verbatim import verify_verbatim
from support.telemetry.runs import RunBody, minimal_run, step, time_text, tool_call

MEGABYTE = 1_000_000
LANGUAGES = ("Der Preis beträgt 12 €", "価格は12ユーロです", "السعر ١٢ يورو", "цена 12 евро", "कीमत 12 यूरो", "🙂" * 20)
BINARY = "".join(map(chr, [*range(1, 32), 127, 133, 0xFFFD, 0xFEFF, 0x202E, 0x10FFFF])) * 20
EPOCH = "1970-01-01T00:00:00Z"
CRAFTED = ("Error" * 200_000, "exit code: " * 90_000, "((((" * 250_000, "a@" * 500_000, "\n" * MEGABYTE, "{" * MEGABYTE)


def team(texts: list[str], **fields: Any) -> list[RunBody]:
    names = ("Orchestrator", "WebSurfer", "Assistant")
    return [
        step(f"s{index}", index, name=names[index % 3], agent_name=names[index % 3], output_summary=text, **fields)
        for index, text in enumerate(texts)
    ]


BAD: dict[str, RunBody] = {
    "no steps": minimal_run(status="failure"),
    "no texts": minimal_run(status="failure", steps=[step(f"s{n}", n, name="") for n in range(5)]),
    "one step": minimal_run(status="failure", steps=team(["the only text"])),
    "languages": minimal_run(status="failure", steps=team([*LANGUAGES])),
    "binary": minimal_run(
        status="failure",
        steps=team([BINARY] * 4, error_message=BINARY),
        tool_calls=[tool_call("c", step_id="s1", status="failure", error_message=BINARY, result_summary=BINARY)],
    ),
    "one time": minimal_run(
        status="failure", steps=[{**each, "started_at": time_text(0)} for each in team(["a", "b", "c", "d"])]
    ),
    "a step at the time 0": {
        **minimal_run(
            status="failure",
            steps=[
                {**step("s0", 0, output_summary="```x``` is assumed."), "started_at": EPOCH, "ended_at": EPOCH},
                step("s1", 1, name="executor", output_summary="exit code: 1\nValueError: x", status="failure"),
            ],
        ),
        "started_at": EPOCH,
    },
    "out of order": minimal_run(
        status="failure",
        steps=random.Random(7).sample(team([f"text {n}" for n in range(12)]), 12),
        tool_calls=[tool_call("c", step_id="s3", status="failure", error_message="timed out")],
    ),
    "latencies of centuries": minimal_run(
        status="failure",
        steps=[{**step("s0", 0, status="failure", error_message="refused", latency_ms=1e15), "ended_at": None}],
        tool_calls=[
            tool_call("c", status="failure", error_message="timed out", latency_ms=1e15, started_at=time_text(0))
        ],
    ),
    "a step of its own parent": minimal_run(
        status="failure", steps=[{**each, "parent_step_id": each["step_id"]} for each in team(["a", "b", "c"])]
    ),
}


@pytest.mark.parametrize("body", BAD.values(), ids=BAD)
def test_bad_run_gets_a_report_with_verbatim_evidence_and_a_note(body: RunBody) -> None:
    run = AgentRun.model_validate(body)
    report = analyze(run)
    assert all(verify_verbatim(run, item) for item in report.evidence_index)
    assert to_markdown(compose_note("a", run.run_id, report, run))


@pytest.mark.parametrize("name", ["no steps", "no texts"])
def test_run_without_candidates_has_insufficient_evidence(name: str) -> None:
    report = analyze(AgentRun.model_validate(BAD[name]))
    assert report.insufficient_evidence
    assert report.candidates == ()
    assert report.attribution is None or report.attribution.confidence is Confidence.LOW


def test_run_of_one_step_has_insufficient_evidence_and_this_step_as_a_guess() -> None:
    report = analyze(AgentRun.model_validate(BAD["one step"]))
    assert report.insufficient_evidence
    assert [found.step_id for found in report.candidates] == ["s0"]
    assert report.attribution is not None
    assert report.attribution.confidence is Confidence.LOW


@pytest.mark.full
@pytest.mark.parametrize("text", CRAFTED, ids=[text[:4] for text in CRAFTED])
@pytest.mark.parametrize("field", ["output_summary", "input_summary", "error_message"])
def test_crafted_megabyte_in_any_field_gets_a_report(field: str, text: str) -> None:
    steps = team(["we begin", "we look", "we end"])
    steps[1] |= {field: text, "status": "failure"}
    run = AgentRun.model_validate(minimal_run(status="failure", steps=steps))
    assert all(verify_verbatim(run, item) for item in analyze(run).evidence_index)


@pytest.mark.full
def test_run_of_ten_thousand_steps_gets_a_report() -> None:
    steps = team([f"we look at part {n % 97} and state {n * 7}" for n in range(10_000)])
    calls = [
        tool_call(f"c{n}", step_id=f"s{n}", status="failure", error_message="timed out") for n in range(0, 10_000, 10)
    ]
    run = AgentRun.model_validate(minimal_run(status="failure", steps=steps, tool_calls=calls))
    assert all(verify_verbatim(run, item) for item in analyze(run).evidence_index)
