"""Records: a posted run as database rows, its search text, and the format of times."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from relab.core.clock import EARLIEST_US, LATEST_US, format_time
from relab.telemetry.ingest.reading import check_agent_run
from relab.telemetry.models import ITEM_KINDS, AgentRun
from relab.telemetry.records import (
    MAX_SEARCH_TEXT,
    RunRecord,
    join_search_text,
    record_of,
    step_latencies_ms,
    version_key,
)
from support.telemetry.runs import (
    RunBody,
    agent_runs,
    content_digest,
    examples,
    failed_run,
    minimal_run,
    step,
    time_text,
    tool_call,
)


def load(record: RunRecord) -> AgentRun:
    """Read a record back as the service reads the rows made from it."""
    items = sorted(record.items, key=lambda item: (item.kind, item.position))
    lists = {
        kind.list_name: [json.loads(item.data) for item in items if item.kind == index]
        for index, kind in enumerate(ITEM_KINDS)
    }
    return AgentRun.model_validate({**json.loads(record.row.data), **lists})


@given(agent_runs())
@examples(80)
def test_run_read_from_its_record_is_unchanged(body: RunBody) -> None:
    run = check_agent_run(body)
    record = record_of(run)
    assert load(record) == run
    assert content_digest(load(record)) == record.row.content_hash == content_digest(run)


@given(agent_runs())
@examples(40)
def test_row_equals_the_run(body: RunBody) -> None:
    run = check_agent_run(body)
    record = record_of(run)
    row = record.row
    assert row.source == "json"
    assert row.run_id == run.run_id
    assert row.mapper_version is None
    assert row.counts.model_dump() == {kind.list_name: len(getattr(run, kind.list_name)) for kind in ITEM_KINDS}
    tool_stats = json.loads(row.tool_stats)
    assert sum(calls for calls, _ in tool_stats.values()) == len(run.tool_calls)
    assert sum(failed for _, failed in tool_stats.values()) == sum(call.status == "failure" for call in run.tool_calls)
    assert len({(item.at, item.kind, item.position, item.ref_id) for item in record.items}) == len(record.items)


def test_step_latencies_are_reported_or_measured_or_left_out() -> None:
    run = check_agent_run(
        minimal_run(
            steps=[
                step("reported", latency_ms=5),
                step("measured", ended_at=time_text(2)),
                step("unknown"),
                step("nothing", latency_ms=0),
            ],
            tool_calls=[tool_call("c", latency_ms=77)],
        )
    )
    assert sorted(step_latencies_ms(record_of(run).items)) == [0, 5, 2_000]


def test_search_text_contains_names_ids_and_errors_in_lower_case() -> None:
    text = record_of(check_agent_run(failed_run(conversation_id="Conv-7", task_id="Task-9"))).search_text
    for part in ("run-1", "shop-agent", "toolcallerror", "trace-abc", "req-456", "conv-7", "task-9", "order_lookup",
                 "missing required field", "customer_id missing"):  # fmt: skip
        assert part in text
    assert "do s1" not in text


@given(st.lists(st.none() | st.text(max_size=5_000), max_size=8))
@examples(60)
def test_search_text_is_bounded_and_contains_all_that_fits(parts: list[str | None]) -> None:
    text = join_search_text(parts)
    # A text may become longer in lower case, but stays bounded.
    assert len(text) <= 3 * MAX_SEARCH_TEXT
    if sum(len(part) + 1 for part in parts if part) < MAX_SEARCH_TEXT:
        assert all(part.lower() in text for part in parts if part)


def test_search_text_contains_each_text_once() -> None:
    assert join_search_text(["B", None, "a", "", "B", "a"]) == "b\na"


def test_version_keys_differ_in_any_part_without_ambiguity() -> None:
    keys = {
        version_key("a", None, None, None), version_key("a", "b", None, None), version_key("a", None, "b", None),
        version_key("a", None, None, "b"), version_key("a", "", None, None), version_key("ab", None, None, None),
        version_key("a", "b", "c", None), version_key("a", "bc", None, None),
    }  # fmt: skip
    assert len(keys) == 8
    assert all(len(key) <= 80 for key in keys)


@given(
    st.integers(EARLIEST_US, LATEST_US - 1)
    | st.integers(0, 10**7)
    | st.integers(0, 7_258_118_399).map(lambda s: s * 10**6)
)
@examples(500)
def test_time_is_formatted_as_iso_8601_in_utc(us: int) -> None:
    moment = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=us)
    assert format_time(us) == moment.isoformat().replace("+00:00", "Z")
