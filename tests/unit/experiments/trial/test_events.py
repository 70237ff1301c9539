"""Reading `harness_events.jsonl`: valid events are kept, and an invalid line affects no other line."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relab.experiments.trial import events
from relab.experiments.trial.events import MAX_PROBLEMS, EventStream, read_events
from support.experiments.configs import IDS

TS = "2026-01-01T00:00:00Z"


def event(seq: int, kind: str = "agent_step_start", **fields: Any) -> dict[str, Any]:
    return {"event_type": kind, "ts": TS, "seq": seq, "ids": IDS.to_json(), **fields}


def read(folder: Path, *lines: Any, is_answered: bool = False) -> EventStream:
    path = folder / "harness_events.jsonl"
    path.write_text("".join(f"{line if isinstance(line, str) else json.dumps(line)}\n" for line in lines))
    return read_events(path, IDS, below=path.parent, is_answered=is_answered)


def test_events_are_read_in_order_and_counted(tmp_path: Path) -> None:
    stream = read(tmp_path, event(0), event(1, "model_call_end"), "", event(7, "mine", ext={"a": 1}), event(8))

    assert [item["seq"] for item in stream.events] == [0, 1, 7, 8]
    assert stream.counts == {"agent_step_start": 2, "model_call_end": 1, "mine": 1}
    assert stream.problems == []
    assert stream.problem_count == 0


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ("{", "the event is not valid JSON"),
        ("[]", "an event is a JSON object"),
        ("7", "an event is a JSON object"),
        ('{"seq": 1, "seq": 2}', "the event is not valid JSON"),
        ("[" * 1_000, "the event is not valid JSON"),
        ("{}", "event_type is missing"),
        ({**event(5), "event_type": 7}, "event_type is a text"),
        ({**event(5), "event_type": ""}, "event_type is a text"),
        ({**event(5), "event_type": "x" * 201}, "event_type is a text"),
        ({**event(5), "seq": "5"}, "event_type is a text of 1 to 200 characters, and seq a whole number"),
        ({**event(5), "seq": 5.0}, "event_type is a text of 1 to 200 characters, and seq a whole number"),
        ({**event(5), "seq": True}, "event_type is a text of 1 to 200 characters, and seq a whole number"),
        ({**event(5), "seq": -1}, "event_type is a text of 1 to 200 characters, and seq a whole number"),
        ({**event(5), "seq": 10**300}, "event_type is a text of 1 to 200 characters, and seq a whole number"),
        ({**event(5), "ids": {}}, "ids belong to another trial"),
        ({**event(5), "ids": {**IDS.to_json(), "trial_id": "trial_2"}}, "ids belong to another trial"),
        ({**event(5), "ids": {**IDS.to_json(), "more": 1}}, "ids belong to another trial"),
        ({**event(5), "ids": None}, "ids belong to another trial"),
        ({**event(5), "ts": "yesterday"}, "ts 'yesterday' is no time"),
        ({**event(5), "ts": 1_700_000_000}, "ts '1700000000' is no time"),
        ({**event(5), "ts": None}, "ts 'None' is no time"),
        ({**event(5), "ts": ["x"] * 100}, "ts "),
        ({**event(5), "ts": "1969-12-31T23:59:59Z"}, "ts '1969-12-31T23:59:59Z' is no time"),
    ],
)
def test_invalid_line_does_not_affect_other_lines(tmp_path: Path, line: Any, problem: str) -> None:
    stream = read(tmp_path, event(1), line, event(9))

    assert [item["seq"] for item in stream.events] == [1, 9]
    assert stream.problem_count == 1
    assert stream.problems[0].startswith(f"line 2: {problem}")
    assert len(stream.problems[0]) < 200


@pytest.mark.parametrize("field", ["event_type", "ts", "seq", "ids"])
def test_missing_required_field_is_a_problem(tmp_path: Path, field: str) -> None:
    line = event(1)
    del line[field]

    assert read(tmp_path, line).problems == [f"line 1: {field} is missing"]


def test_seq_strictly_increases(tmp_path: Path) -> None:
    stream = read(tmp_path, event(3), event(3), event(2), event(4))

    assert [item["seq"] for item in stream.events] == [3, 4]
    assert stream.problems == ["line 2: seq 3 does not come after 3", "line 3: seq 2 does not come after 3"]


def test_no_step_starts_after_a_stop(tmp_path: Path) -> None:
    stop = event(2, "control_ack", action_observed="stop")
    stream = read(tmp_path, event(1), stop, event(3, "error"), event(4))

    assert stream.problems == ["line 4: a step starts after a stop was acknowledged"]
    goes_on = event(2, "control_ack", action_observed="checkpoint")
    assert read(tmp_path, event(1), goes_on, event(3)).problems == []


ACK = {"kind": "control_ack", "control_version": "sha256:" + "0" * 64, "action_observed": "continue"}


@pytest.mark.parametrize(
    ("kinds", "problems"),
    [
        (["start", "end", "ack", "start", "end", "ack"], []),
        (["start", "end", "error", "ack"], []),
        (["start", "end", "start", "end", "ack"], ["line 3: no control_ack follows the agent_step_end of line 2"]),
        (["end", "end", "ack"], ["line 2: no control_ack follows the agent_step_end of line 1"]),
        (["start", "end", "error"], ["line 3: no control_ack follows the agent_step_end of line 2"]),
        (["ack", "start"], []),
    ],
)
def test_each_step_needs_an_acknowledgement_if_the_harness_promised_one(
    tmp_path: Path, kinds: list[str], problems: list[str]
) -> None:
    made = {"start": {"kind": "agent_step_start"}, "end": {"kind": "agent_step_end"}, "ack": ACK}
    lines = [event(seq, **made.get(kind, {"kind": kind})) for seq, kind in enumerate(kinds)]

    assert read(tmp_path, *lines, is_answered=True).problems == problems
    assert read(tmp_path, *lines).problems == []


@pytest.mark.parametrize("version", [None, 1, "", "sha256:", "sha256:" + "0" * 63, "0" * 64, "sha256:" + "A" * 64])
def test_acknowledgement_needs_a_valid_control_version(tmp_path: Path, version: Any) -> None:
    stream = read(tmp_path, event(1, **{**ACK, "control_version": version}), is_answered=True)

    assert len(stream.events) == 1
    assert stream.problem_count == 1
    assert "control_version is sha256: and 64 hex digits" in stream.problems[0]


def test_many_problems_are_counted_and_the_first_listed(tmp_path: Path) -> None:
    stream = read(tmp_path, *["nonsense"] * 1_000)

    assert stream.problem_count == 1_000
    assert len(stream.problems) == MAX_PROBLEMS


def test_too_long_line_does_not_affect_other_lines(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(events, "MAX_LINE_BYTES", 1_000)
    stream = read(tmp_path, event(1), event(2, ext={"x": "y" * 3_500}), event(3), event(4, ext={"x": "y" * 2_000}))

    assert [item["seq"] for item in stream.events] == [1, 3]
    assert stream.problems == ["line 2: longer than 1,000 bytes", "line 4: longer than 1,000 bytes"]


def test_events_beyond_the_limit_are_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(events, "MAX_EVENTS", 3)
    stream = read(tmp_path, *[event(number) for number in range(10)])
    assert len(stream.events) == 3
    assert stream.problems == ["line 3: more than 3 events; the rest is not read"]

    monkeypatch.setattr(events, "MAX_EVENTS_BYTES", 2 * (len(json.dumps(event(0))) + 1) + 5)
    stream = read(tmp_path, *[event(number) for number in range(10)])
    assert len(stream.events) == 2
    assert stream.problems == [f"line 3: more than {events.MAX_EVENTS_BYTES} bytes; the rest is not read"]


def test_number_of_counted_event_types_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(events, "MAX_KINDS", 2)
    stream = read(tmp_path, *[event(number, f"kind {number % 4}") for number in range(8)])

    assert stream.counts == {"kind 0": 2, "kind 1": 2}
    assert stream.problem_count == 4


@pytest.mark.parametrize("kind", ["nothing", "link", "folder", "pipe", "dangling"])
def test_path_that_is_not_a_file_has_no_events(tmp_path: Path, kind: str) -> None:
    path, other = tmp_path / "events.jsonl", tmp_path / "other.jsonl"
    other.write_text(json.dumps(event(1)))
    if kind == "link":
        path.symlink_to(other)
    elif kind == "dangling":
        path.symlink_to(tmp_path / "none")
    elif kind == "folder":
        path.mkdir()
    elif kind == "pipe":
        os.mkfifo(path)

    assert read_events(path, IDS, below=path.parent).events == []


def test_truncated_last_line_is_a_problem(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    path.write_text(json.dumps(event(1)) + "\n" + json.dumps(event(2)))
    assert len(read_events(path, IDS, below=path.parent).events) == 2
    path.write_text(json.dumps(event(1)) + "\n" + json.dumps(event(2))[:-5])
    assert len(read_events(path, IDS, below=path.parent).events) == 1


def test_sum_ignores_non_numbers_and_is_none_without_a_finite_result(tmp_path: Path) -> None:
    def call(seq: int, tokens: Any) -> dict[str, Any]:
        return event(seq, "model_call_end", usage={"tokens_in": tokens})

    stream = read(tmp_path, call(1, 10), call(2, 2.5), call(3, "7"), call(4, True), event(5, "model_call_end"))
    assert stream.sum_of("model_call_end", "usage", "tokens_in") == 12.5
    assert stream.sum_of("model_call_end", "usage", "tokens_out") is None
    assert stream.sum_of("tool_call_end", "usage", "tokens_in") is None

    for huge in (10**300, 1e308):
        stream = read(tmp_path, call(1, huge), call(2, huge))
        assert stream.sum_of("model_call_end", "usage", "tokens_in") is None
    largest_double = int(sys.float_info.max)
    stream = read(tmp_path, call(1, largest_double), call(2, largest_double), call(3, 0.5))
    assert stream.sum_of("model_call_end", "usage", "tokens_in") is None


@given(st.lists(st.one_of(st.binary(max_size=80), st.integers(0, 20).map(lambda n: json.dumps(event(n)).encode()))))
def test_any_bytes_give_events_in_increasing_order(
    tmp_path_factory: pytest.TempPathFactory, lines: list[bytes]
) -> None:
    path = tmp_path_factory.getbasetemp() / "any_events.jsonl"
    path.write_bytes(b"\n".join(lines))
    stream = read_events(path, IDS, below=path.parent)

    assert stream.counts.total() == len(stream.events)
    seqs = [item["seq"] for item in stream.events]
    assert seqs == sorted(set(seqs))
