"""Sample agent runs: small ones to change, and hypothesis strategies."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

from relab.core.json import digest
from relab.telemetry.models import AgentRun

RunBody = dict[str, Any]


FEW = 20
"""A test with at most this many examples always runs all of them."""


def examples(count: int) -> settings:
    """Return the settings of a deterministic property test with `count` examples, a quarter of them in `make test`.

    The examples may share fixtures: each example must use different ids, or read only its own run.
    """
    return settings(
        # Hypothesis runs 100 examples unless its profile sets another number.
        max_examples=max(min(count, FEW), count * settings().max_examples // 100),
        derandomize=True,
        deadline=None,
        database=None,
        suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
    )


def content_digest(run: AgentRun) -> str:
    """Return the digest of a run's content that is stored with the run."""
    return digest(run.model_dump(mode="json", exclude_unset=True))


FIRST_START = datetime(2024, 1, 15, 10, 30, tzinfo=UTC)


def time_text(offset_s: float = 0.0) -> str:
    """Return the RFC 3339 time `offset_s` seconds after the start of the sample runs."""
    return (FIRST_START + timedelta(seconds=offset_s)).isoformat().replace("+00:00", "Z")


def minimal_run(run_id: str = "run-1", **fields: Any) -> RunBody:
    """Return a run with only its required fields."""
    return {
        "run_id": run_id,
        "agent_name": "shop-agent",
        "started_at": time_text(),
        "status": "success",
        **fields,
    }


def step(step_id: str, offset_s: float = 0.0, **fields: Any) -> RunBody:
    """Return a step that starts `offset_s` seconds after the run."""
    return {
        "step_id": step_id,
        "name": f"do {step_id}",
        "status": "success",
        "started_at": time_text(offset_s),
        **fields,
    }


def tool_call(call_id: str, **fields: Any) -> RunBody:
    """Return a tool call without times."""
    return {"call_id": call_id, "tool_name": "order_lookup", "status": "success", **fields}


def guardrail_event(event_id: str, offset_s: float = 0.0, **fields: Any) -> RunBody:
    """Return a guardrail event `offset_s` seconds after the run's start."""
    return {
        "event_id": event_id,
        "type": "policy",
        "message": "looked at",
        "created_at": time_text(offset_s),
        **fields,
    }


def failed_run(run_id: str = "run-1", **fields: Any) -> RunBody:
    """Return a run with an obvious cause: a tool rejected its arguments."""
    body = minimal_run(
        run_id,
        agent_version="2.1.0",
        model="gpt-x",
        environment="prod",
        ended_at=time_text(45),
        status="failure",
        error_type="ToolCallError",
        error_message="Tool schema validation failed",
        trace_id="trace-abc",
        correlation_ids=["req-456"],
        steps=[
            step("s1", 0, ended_at=time_text(5), latency_ms=5_000),
            step("s2", 5, ended_at=time_text(15), status="failure", latency_ms=10_000, retries=1),
        ],
        tool_calls=[
            tool_call(
                "c1",
                step_id="s2",
                status="failure",
                args_json={"order_number": "12345"},
                error_class="ValidationError",
                error_message="Missing required field: 'customer_id'",
                status_code=400,
                latency_ms=350,
            )
        ],
        guardrail_events=[
            guardrail_event("g1", 8, type="schema_validation", message="customer_id missing", step_id="s2")
        ],
        cost={"tokens_prompt": 1_250, "tokens_completion": 380, "total_cost_usd": 0.0245},
    )
    return {**body, **fields}


# All characters that JSON and the databases can store: no NUL, no lone surrogates.
texts = st.text(st.characters(exclude_characters="\x00", exclude_categories=("Cs",)), max_size=30)
ids = st.text(st.characters(exclude_characters="/", exclude_categories=("Cs", "Cc")), min_size=1, max_size=20).filter(
    lambda text: text not in {".", "..", "rca-runs"}
)
json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats(allow_nan=False, allow_infinity=False) | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=6,
)
# Few distinct times, so that ties are common.
offsets = st.integers(0, 4)
step_statuses = st.sampled_from(["success", "failure", "running", "cancelled", "skipped"])
latencies = st.none() | st.integers(0, 10**6) | st.floats(0, 1e9)


@st.composite
def agent_runs(draw: st.DrawFn, *, run_id: str | None = None, max_items: int = 8) -> RunBody:
    """Draw a valid run, with unknown fields at every level."""
    step_ids = draw(st.lists(ids, max_size=max_items, unique=True))
    known_or_not = st.none() | ids | (st.sampled_from(step_ids) if step_ids else st.none())
    extras = st.dictionaries(texts.map(lambda text: f"x-{text}"), json_values, max_size=2)

    def timed(offset: int) -> RunBody:
        return {"started_at": time_text(offset)}

    steps = [
        {
            **draw(extras),
            **step(item, draw(offsets), status=draw(step_statuses), name=draw(texts), retries=draw(st.integers(0, 9))),
            "latency_ms": draw(latencies),
        }
        for item in step_ids
    ]
    calls = [
        {
            **draw(extras),
            **tool_call(item, status=draw(step_statuses), tool_name=draw(texts), args_json=draw(json_values)),
            "step_id": draw(known_or_not),
            "error_message": draw(st.none() | texts),
            **draw(st.just({}) | offsets.map(timed)),
        }
        for item in draw(st.lists(ids, max_size=max_items, unique=True))
    ]
    events = [
        {**draw(extras), **guardrail_event(item, draw(offsets), message=draw(texts))}
        for item in draw(st.lists(ids, max_size=max_items, unique=True))
    ]
    return {
        **draw(extras),
        **minimal_run(run_id if run_id is not None else draw(ids)),
        "agent_name": draw(texts.filter(bool)),
        "status": draw(st.sampled_from(["success", "failure", "running", "cancelled"])),
        "error_message": draw(st.none() | texts),
        "steps": steps,
        "tool_calls": calls,
        "guardrail_events": events,
    }
