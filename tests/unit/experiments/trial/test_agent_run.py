"""Converting a trial to an agent run: telemetry accepts any events of a harness."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pydantic_core
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from relab.experiments.models import TrialOutcome, TrialRow
from relab.experiments.trial.agent_run import agent_run_of
from relab.telemetry.ingest.reading import read_agent_run
from relab.telemetry.models import AgentRun
from relab.telemetry.trial_runs import is_trial
from support.experiments.configs import IDS

TS = "2026-01-01T00:00:{:02d}Z"

ROW = TrialRow(
    **IDS._asdict(),
    baseline_id="control",
    workload_type="agent_harness",
    task_index=0,
    outcome=TrialOutcome.FAILURE,
    success=False,
    started_at=TS.format(0),
    ended_at=TS.format(30),
    duration_ms=12.5,
    error_type="wrong_answer",
    error_message="not this",
    attempts=1,
    integration_level="cli_events",
    sandbox="local",
    container_mode=False,
    network_mode_requested="none",
    metrics={"tokens_in": 10.0, "tokens_out": 3, "cost_usd": 0.25},
    trial_dir="trials/trial_1",
)


def event(seq: int, kind: str, **fields: Any) -> dict[str, Any]:
    return {"event_type": kind, "ts": TS.format(seq % 60), "seq": seq, "ids": IDS.to_json(), **fields}


def run_of(row: TrialRow, events: Sequence[dict[str, Any]] = (), **arguments: Any) -> AgentRun:
    run = agent_run_of(row, experiment_id="demo", bindings={"model": "m"}, events=events, **arguments)
    return read_agent_run(pydantic_core.to_json(run))


def test_agent_run_of_a_trial_and_the_trace_of_its_harness_are_recognized_as_a_trial() -> None:
    run = run_of(ROW)
    posted = run.model_dump(mode="json", exclude={"experiment"})
    trace = read_agent_run(pydantic_core.to_json(posted | {"correlation_ids": [run.run_id]}))
    assert is_trial(run)
    assert is_trial(trace)


def test_run_that_only_shares_the_environment_of_trials_is_not_a_trial() -> None:
    run = run_of(ROW)
    for experiment in ("b", {"name": "b"}):
        posted = run.model_dump(mode="json") | {"correlation_ids": ["req-1"], "experiment": experiment}
        assert not is_trial(read_agent_run(pydantic_core.to_json(posted)))
    assert not is_trial(run.model_copy(update={"environment": "prod"}))


def test_a_trial_without_events_is_one_step() -> None:
    run = run_of(ROW)

    assert run.run_id == "run_1.trial_1"
    assert run.agent_name == "demo"
    assert run.agent_version == "control"
    assert run.environment == "experiment"
    assert run.task_id == "task_1"
    assert run.status == "failure"
    assert run.error_type == "wrong_answer"
    assert run.error_message == "not this"
    assert run.correlation_ids == ["run_1"]
    assert [(step.step_id, step.status, step.latency_ms) for step in run.steps] == [("harness", "failure", 12.5)]
    assert run.cost is not None
    assert run.cost.tokens_prompt == 10
    assert run.cost.tokens_completion == 3
    assert run.cost.total_cost_usd == 0.25


@pytest.mark.parametrize(
    ("outcome", "status"),
    [("success", "success"), ("failure", "failure"), ("error", "failure"), ("missing", "cancelled")],
)
def test_outcome_of_the_trial_is_the_status_of_the_run(outcome: str, status: str) -> None:
    run = run_of(replace(ROW, outcome=TrialOutcome(outcome), success=outcome == "success"))

    assert run.status == status
    assert (run.error_type is None) == (outcome == "success")


def test_events_become_steps_and_tool_calls() -> None:
    run = run_of(
        ROW,
        [
            event(1, "agent_step_start", step_index=0),
            event(
                2,
                "model_call_end",
                step_index=0,
                model={"identity": "gpt"},
                usage={"tokens_in": 5, "tokens_out": 2},
                timing={"duration_ms": 500},
                outcome={"status": "ok"},
                attempt_index=1,
            ),
            event(
                3,
                "tool_call_end",
                step_index=0,
                tool={"name": "search"},
                outcome={"status": "error", "error_type": "timeout", "message": "too slow"},
                ext={"arguments": {"q": 1}, "result": "nothing"},
            ),
            event(4, "agent_step_end", step_index=0),
            event(5, "agent_step_start", step_index=1),
            event(6, "error", step_index=1, error_type="crash", message="boom"),
            event(7, "control_ack"),
            event(8, "of_my_own"),
        ],
    )
    steps = {step.step_id: step for step in run.steps}

    assert list(steps) == ["step_0", "model_2", "step_1"]
    assert steps["step_0"].status == "success"
    assert steps["step_1"].status == "failure"
    assert steps["step_1"].error_class == "crash"
    assert steps["step_1"].error_message == "boom"
    assert steps["model_2"].name == "model call gpt"
    assert steps["model_2"].parent_step_id == "step_0"
    assert steps["model_2"].latency_ms == 500
    assert steps["model_2"].retries == 1
    assert steps["model_2"].ended_at is not None
    assert steps["model_2"].ended_at - steps["model_2"].started_at == 500_000
    call = run.tool_calls[0]
    assert call.call_id == "tool_3"
    assert call.tool_name == "search"
    assert call.step_id == "step_0"
    assert call.status == "failure"
    assert call.error_class == "timeout"
    assert call.error_message == "too slow"
    assert call.args_json == {"q": 1}
    assert call.result_summary == "nothing"


def test_outcome_word_of_a_tool_call_becomes_its_status() -> None:
    run = run_of(ROW, [event(1, "tool_call_end", outcome="ok"), event(2, "tool_call_end", outcome="timeout")])

    assert [(call.status, call.error_class) for call in run.tool_calls] == [("success", None), ("failure", "timeout")]


def test_error_without_a_step_is_kept() -> None:
    run = run_of(ROW, [event(1, "error", message="boom")])

    assert [(step.step_id, step.status, step.error_message) for step in run.steps] == [("error", "failure", "boom")]


def test_clock_that_was_set_back_loses_no_trial() -> None:
    run = run_of(replace(ROW, started_at=TS.format(20), ended_at=TS.format(10)))

    assert run.ended_at is None


LONG = "x" * 100_000


@pytest.mark.parametrize(
    "events",
    [
        [event(1, "error", error_type=LONG, message=LONG)],
        [event(1, "agent_step_start", step_index=10**300)],
        [event(1, "agent_step_end", step_index=-5)],
        [event(2**62, "model_call_end", model={"identity": LONG})],
        [event(1, "tool_call_end", tool={"name": LONG}, outcome={"status": LONG, "error_type": LONG})],
        [event(1, "tool_call_end", timing={"duration_ms": True})],
        [event(1, "tool_call_end", timing={"duration_ms": 10**300})],
        [event(1, "tool_call_end", timing={"duration_ms": -1}, attempt_index=10**30)],
        [event(1, "tool_call_end", ext={"arguments": json.loads("[" * 190 + "]" * 190)})],
        [event(1, "tool_call_end", ext={"arguments": LONG, "result": [LONG]})],
        [event(1, "model_call_end", usage={"tokens_in": 10**30, "tokens_out": -1})],
        [event(2, "agent_step_start", step_index=0), {**event(3, "agent_step_end", step_index=0), "ts": TS.format(0)}],
        [{**event(1, "model_call_end", timing={"duration_ms": 1e11}), "ts": "1970-01-01T00:00:00Z"}],
        [{**event(1, "model_call_end"), "ts": "2026-01-01T00:00:00.123456789+05:30"}],
    ],
)
def test_values_beyond_the_limits_of_telemetry_are_cut(events: list[dict[str, Any]]) -> None:
    run = run_of(ROW, events)

    assert len(run.steps) + len(run.tool_calls) >= 1


def test_names_and_traces_of_a_hostile_harness_are_cut() -> None:
    row = replace(ROW, error_type=LONG, error_message=LONG[:4_000], metrics={"tokens_in": -1, "cost_usd": True})
    run = run_of(row, trace_ids=[f"{number:032x}" for number in range(5_000)])

    assert len(run.error_type or "") == 1_000
    assert run.cost is None
    assert len(run.correlation_ids) == 1_001


scalars = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(10**40), 10**40),
    st.floats(allow_nan=False, allow_infinity=False),
    st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\x00"), max_size=12),
)
anything = st.recursive(
    scalars,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.dictionaries(st.sampled_from(["status", "name", "identity", "duration_ms", "x"]), inner, max_size=2),
    ),
    max_leaves=4,
)
fields = st.dictionaries(
    st.sampled_from(
        ["step_index", "outcome", "model", "tool", "usage", "timing", "ext", "attempt_index", "error_type", "message"]
    ),
    anything,
    max_size=3,
)
kinds = st.sampled_from(
    ["agent_step_start", "agent_step_end", "control_ack", "model_call_end", "tool_call_end", "error", "mine"]
)


@settings(max_examples=300)
@given(st.lists(st.tuples(kinds, st.integers(0, 59), fields), max_size=4), st.sampled_from(TrialOutcome))
def test_telemetry_takes_any_events(found: list[tuple[str, int, dict[str, Any]]], outcome: TrialOutcome) -> None:
    events = [
        {**extra, "event_type": kind, "ts": TS.format(second), "seq": seq, "ids": IDS.to_json()}
        for seq, (kind, second, extra) in enumerate(found)
    ]
    run = run_of(replace(ROW, outcome=outcome, success=outcome is TrialOutcome.SUCCESS), events)

    assert len(run.steps) >= 1
    assert len(run.tool_calls) == sum(kind == "tool_call_end" for kind, _, _ in found)
