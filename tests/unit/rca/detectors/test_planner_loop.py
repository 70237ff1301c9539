"""The planner_loop detector: repetition without progress, and repetitions that are not loops."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relab.rca.analyzer import analyze
from relab.rca.detectors.cycles import find_cycles
from relab.rca.models import Category, Finding
from support.telemetry.runs import RunBody, examples, step
from unit.rca.builders import agent_run, call, failed, findings

SAME = {"args_json": {"q": "shoes"}}


def loops(run: Any) -> list[Finding]:
    return findings(analyze(run), Category.PLANNER_LOOP)


def calls(results: list[str | None], **fields: Any) -> list[RunBody]:
    return [call(f"c{n}", n, **{**SAME, "result_summary": result, **fields}) for n, result in enumerate(results)]


@pytest.mark.parametrize("retries", [3, 8])
def test_many_retries_are_a_loop(retries: int) -> None:
    report = analyze(agent_run(steps=[step("s1", status="failure", retries=retries)]))
    assert report.category is Category.PLANNER_LOOP
    (finding,) = findings(report, Category.PLANNER_LOOP)
    assert finding.detail == "retries"
    assert finding.confidence == "high"
    assert finding.step_id == "s1"
    assert report.evidence_index[0].field == "retries"
    assert report.evidence_index[0].snippet == str(retries)
    assert not report.insufficient_evidence or not report.hypotheses or report.hypotheses[0].confidence == "low"


@pytest.mark.parametrize(
    "error", [{"status_code": 503}, {"status_code": 404}, {"error_message": "Connection reset by peer"}]
)
@pytest.mark.parametrize("retried", ["call", "step"])
def test_many_retries_of_an_error_without_a_category_are_the_cause(error: dict[str, Any], retried: str) -> None:
    of_call, of_step = (3, 0) if retried == "call" else (0, 3)
    steps = [step("s1", status="failure", latency_ms=60_000, retries=of_step)]

    report = analyze(agent_run(steps=steps, tool_calls=[failed(retries=of_call, **error)]))

    assert [hypothesis.category for hypothesis in report.hypotheses] == [Category.PLANNER_LOOP, Category.UNKNOWN]
    assert report.detail == "retries"
    assert "only an effect" not in report.hypotheses[0].description


@pytest.mark.parametrize(
    ("message", "category"),
    [
        ("429 Too Many Requests", Category.RATE_LIMITED),
        ("request timed out after 30 s", Category.TIMEOUT),
        ("Permission denied", Category.TOOL_PERMISSION),
    ],
)
def test_error_that_ends_retries_has_the_category_of_its_message(message: str, category: Category) -> None:
    run = agent_run(tool_calls=[failed(error_class="MaxRetriesExceededError", error_message=message)])
    assert analyze(run).category is category


def test_two_retries_are_not_a_loop() -> None:
    assert loops(agent_run(steps=[step("s1", status="failure", retries=2)], tool_calls=[failed(retries=2)])) == []


def test_identical_calls_with_identical_results_are_a_loop() -> None:
    report = analyze(agent_run(tool_calls=calls(["3 shoes"] * 5)))
    (finding,) = report.findings
    assert finding.category == Category.PLANNER_LOOP
    assert finding.detail == "identical_calls"
    assert finding.confidence == "high"
    assert not report.insufficient_evidence
    assert report.hypotheses[0].title == "Planner Loop Root Cause"
    assert "called 5 times" in report.hypotheses[0].description
    assert finding.evidence_ids == ("ev_tool_c0", "ev_tool_c1", "ev_tool_c2")
    assert loops(agent_run(tool_calls=calls(["3 shoes"] * 3)))[0].confidence == "medium"


def test_hash_replaces_arguments_that_were_not_sent() -> None:
    assert len(loops(agent_run(tool_calls=calls(["x"] * 3, args_json=None, args_hash="h1")))) == 1
    assert loops(agent_run(tool_calls=calls(["x"] * 3, args_json=None))) == []


def test_two_identical_calls_are_not_a_loop() -> None:
    assert loops(agent_run(tool_calls=calls(["3 shoes"] * 2))) == []


@pytest.mark.parametrize(
    "results",
    [
        ["page 1", "page 2", "page 3", "page 4"],
        ["pending", "pending", "pending", "done"],
        ["status: in progress"] * 6,
        ["queued", "running 10 %", "running 70 %", "finished"],
    ],
)
def test_polling_is_not_a_loop(results: list[str]) -> None:
    assert loops(agent_run(tool_calls=calls(results))) == []


def test_polling_that_never_ends_is_a_loop_of_a_failed_run() -> None:
    assert len(loops(agent_run(tool_calls=calls(["pending"] * 12)))) == 1
    many = [f"value {n}" for n in range(12)]
    assert [f.confidence for f in loops(agent_run(tool_calls=calls(many)))] == ["low"]
    assert loops(agent_run("success", tool_calls=calls(many))) == []


def test_calls_of_different_agents_are_not_one_loop() -> None:
    steps = [step(f"s{n}", n, agent_name=f"agent-{n}") for n in range(3)]
    bodies = [call(f"c{n}", n, step_id=f"s{n}", result_summary="x", **SAME) for n in range(3)]
    assert loops(agent_run(steps=steps, tool_calls=bodies)) == []


def test_same_test_run_between_edits_is_only_a_hint() -> None:
    bodies: list[RunBody] = []
    for n in range(4):
        bodies.append(call(f"e{n}", 2 * n, tool_name="edit", args_json={"patch": n}, result_summary="ok"))
        bodies.append(call(f"t{n}", 2 * n + 1, tool_name="run_tests", args_json={}, result_summary="1 failed"))
    assert [(f.detail, f.confidence) for f in loops(agent_run(tool_calls=bodies))] == [("identical_calls", "low")]


def test_alternating_calls_are_one_cycle() -> None:
    bodies = [
        call(f"c{n}", n, tool_name=f"tool_{n % 2}", args_json={"k": n % 2}, result_summary=f"r{n % 2}")
        for n in range(6)
    ]
    (finding,) = loops(agent_run(tool_calls=bodies))
    assert finding.detail == "alternating_cycle"
    assert finding.call_id == "c0"
    assert [f.confidence for f in loops(agent_run(tool_calls=bodies[:5]))] == ["low"]
    assert loops(agent_run(tool_calls=bodies[:4])) == []
    changing = [{**body, "args_json": {"k": n}} for n, body in enumerate(bodies)]
    assert loops(agent_run(tool_calls=changing)) == []


def test_loop_that_the_run_got_past_is_recovered() -> None:
    tail = call("c9", 9, args_json={"q": "boots"}, result_summary="2 boots")
    (finding,) = loops(agent_run(tool_calls=[*calls(["3 shoes"] * 3), tail]))
    assert finding.recovered
    (finding,) = loops(agent_run("success", tool_calls=calls(["3 shoes"] * 3)))
    assert finding.recovered


def test_steps_with_equal_output_are_a_loop() -> None:
    text = "I will now ask the executor to run the code again, as no output was given."
    steps = [step(f"s{n}", n, name=f"Step {n}", output_summary=text) for n in range(3)]
    (finding,) = loops(agent_run(steps=steps))
    assert finding.detail == "identical_steps"
    assert finding.step_id == "s0"
    other_inputs = [{**body, "input_summary": f"batch {n}"} for n, body in enumerate(steps)]
    assert loops(agent_run(steps=other_inputs)) == []
    short = [{**body, "output_summary": "Processed successfully"} for body in steps]
    assert loops(agent_run(steps=short)) == []


def test_steps_that_request_the_calls_of_a_loop_are_no_loop_of_their_own() -> None:
    text = "order_lookup({'order_id': 'A-17', 'customer_id': 'C-204'})"
    steps = [step(f"s{n}", 2 * n, name="chat", output_summary=text) for n in range(5)]
    requested = [call(f"c{n}", 2 * n + 1, **SAME, result_summary="not yet found") for n in range(5)]

    report = analyze(agent_run(steps=steps, tool_calls=requested))

    assert [finding.detail for finding in findings(report, Category.PLANNER_LOOP)] == ["identical_calls"]
    assert report.attribution is not None
    assert report.attribution.call_id == "c0"


@pytest.mark.parametrize(
    ("error_type", "message"),
    [
        ("GraphRecursionError", "Recursion limit of 25 reached without hitting a stop condition."),
        ("AgentError", "Agent stopped due to iteration limit or time limit."),
        ("MaxTurnsExceeded", "Max turns (10) exceeded"),
        ("LlmCallsLimitExceededError", "Max number of llm calls limit of `5` exceeded"),
        ("UsageLimitExceeded", "The next request would exceed the request_limit of 5. Consider raising the limit."),
    ],
)
def test_iteration_limit_is_a_loop(error_type: str, message: str) -> None:
    report = analyze(agent_run(error_type=error_type, error_message=message, tool_calls=[call("c1")]))
    assert report.category is Category.PLANNER_LOOP
    assert report.attribution is None


@given(
    prefix=st.lists(st.integers(100, 200), max_size=5),
    pattern=st.lists(st.integers(0, 3), min_size=2, max_size=4, unique=True),
    repeats=st.integers(3, 6),
)
@examples(60)
def test_cycles_are_found_at_any_position(prefix: list[int], pattern: list[int], repeats: int) -> None:
    tokens = [*prefix, *pattern * repeats, -1]
    found = [cycle for cycle in find_cycles(tokens, min_repeats=3) if cycle.start <= len(prefix) < cycle.end]
    assert [(cycle.period, cycle.repeats >= repeats) for cycle in found] == [(len(pattern), True)]


@given(tokens=st.lists(st.one_of(st.none(), st.integers(0, 2)), max_size=60))
@examples(100)
def test_a_cycle_repeats_exactly_and_never_overlaps(tokens: list[int | None]) -> None:
    cycles = sorted(find_cycles(tokens, min_repeats=3), key=lambda cycle: cycle.start)
    for cycle in cycles:
        part = tokens[cycle.start : cycle.end]
        assert cycle.repeats >= 3
        assert None not in part
        assert all(part[i] == part[i - cycle.period] for i in range(cycle.period, len(part)))
    assert all(first.end <= second.start for first, second in itertools.pairwise(cycles))
