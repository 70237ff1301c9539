"""Recorded telemetry of agent frameworks, and the comparison of runs with expected facts."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from evals.framework_runs import ShownCall, ShownRun
from evals.frameworks import marks_of, tally
from rig.frameworks.cases import CASES
from rig.frameworks.catalogue import PROGRAMS, frameworks
from rig.frameworks.receiver import Export
from rig.frameworks.record import EXPECTED, read_expected, recorded_frameworks
from rig.frameworks.recordings import (
    FIXTURES,
    SUFFIX,
    RecordingError,
    message_of,
    read_recording,
    recording_path,
    texts_of,
    trace_ids,
    write_recording,
)

MACHINE = re.compile(r"/(?:tmp|root|home|work|srv)/|site-packages/rig/")
LARGEST_BYTES = 3_000_000
RECORDED = [(name, case) for name in recorded_frameworks() for case in read_expected(name)]
LOOKED_UP = {"order_id": "A-17", "customer_id": "C-204"}
CALL: dict[str, Any] = {
    "name": "order_lookup", "agent": "order_desk", "arguments": LOOKED_UP, "result": '{"state": "shipped"}', "error": None,
    "reached_tool": True, "failed": False,
}  # fmt: skip
FACTS: dict[str, Any] = {
    "question": "Where?", "answer": "There.", "outcome": "succeeded", "blamed": None, "tool_calls": [CALL],
    "agents": [{"name": "order_desk", "question": "Where?", "answer": "There.", "outcome": "succeeded"}],
    "not_in_trace": [],
}  # fmt: skip
SEEN = ShownCall(
    "order_lookup", "order_desk", failed=False, arguments=LOOKED_UP, result='{"state":"shipped"}', error=None
)
SHOWN = ShownRun("succeeded", "Where?", "There.", (), (SEEN,), None, (), ())


def wrong(facts: dict[str, Any], shown: ShownRun) -> set[str]:
    return {mark.measure for mark in marks_of("loop", "success", facts, shown, 1) if not mark.is_right}


# Recordings


@pytest.mark.parametrize("name", recorded_frameworks())
def test_every_case_is_recorded_or_has_a_reason(name: str) -> None:
    framework = frameworks()[name]
    common = {case for case in CASES if CASES[case].is_common}
    files = {path.name.removesuffix(SUFFIX) for path in (FIXTURES / name).glob(f"*{SUFFIX}")}

    assert set(read_expected(name)) == files
    assert files == set(framework.cases)
    assert files | set(framework.cannot) == common | set(framework.also)
    assert not files & set(framework.cannot)
    assert all(framework.cannot.values())


def test_every_program_has_its_recordings() -> None:
    assert recorded_frameworks() == sorted(frameworks())


@pytest.mark.parametrize(("name", "case"), RECORDED)
def test_recording_names_no_machine(name: str, case: str) -> None:
    texts = [text for export in read_recording(recording_path(name, case)) for text in texts_of(message_of(export))]

    assert texts
    assert [text for text in texts if MACHINE.search(text)] == []


@pytest.mark.parametrize(("name", "case"), RECORDED)
def test_recording_is_one_trace(name: str, case: str) -> None:
    assert len(trace_ids(read_recording(recording_path(name, case)))) == 1


def test_expected_facts_name_no_machine() -> None:
    assert [path for path in FIXTURES.glob(f"*/{EXPECTED}") if MACHINE.search(path.read_text())] == []


def test_recordings_are_small() -> None:
    assert sum(path.stat().st_size for path in FIXTURES.rglob("*") if path.is_file()) < LARGEST_BYTES


@pytest.mark.parametrize("path", sorted(PROGRAMS.glob("*/requirements.txt")), ids=lambda path: path.parent.name)
def test_packages_are_pinned_and_name_no_address(path: Path) -> None:
    lines = [line for line in path.read_text().splitlines() if not line.startswith("#")]

    assert [line for line in lines if not re.fullmatch(r"[A-Za-z0-9._-]+==[A-Za-z0-9.!+_-]+", line)] == []


def test_recording_is_read_as_it_was_written(tmp_path: Path) -> None:
    exports = [Export("/v1/traces", b"1\n2"), Export("/v1/logs", b""), Export("/v1/traces", b"\x00/v1/logs 3\n")]

    write_recording(tmp_path / "first", exports)
    write_recording(tmp_path / "second", exports)

    assert read_recording(tmp_path / "first") == exports
    assert (tmp_path / "first").read_bytes() == (tmp_path / "second").read_bytes()


def test_damaged_recording_is_named(tmp_path: Path) -> None:
    path = tmp_path / "damaged"
    write_recording(path, [Export("/v1/elsewhere", b"1")])

    with pytest.raises(RecordingError, match="damaged"):
        read_recording(path)


# Marks


def test_run_that_shows_all_facts_is_right() -> None:
    marks = list(marks_of("loop", "success", FACTS, SHOWN, 1))

    assert [mark for mark in marks if not mark.is_right] == []
    assert {mark.measure for mark in marks} == {
        "outcome", "no blame", "arguments", "result", "agent", "question", "answer", "accepted"
    }  # fmt: skip


@pytest.mark.parametrize(
    ("change", "measure"),
    [
        ({"outcome": "failed"}, {"outcome"}),
        ({"question": None}, {"question"}),
        ({"answer": "There. There."}, {"answer"}),
        ({"blamed": "model"}, {"no blame"}),
        ({"rejected": ["/v1/logs 404"]}, {"accepted"}),
        ({"tool_calls": []}, {"arguments", "result", "agent"}),
        ({"tool_calls": [SEEN._replace(arguments={"kwargs": LOOKED_UP})]}, {"arguments"}),
        ({"tool_calls": [SEEN._replace(failed=True)]}, {"result"}),
        ({"tool_calls": [SEEN._replace(agent="shop")]}, {"agent"}),
    ],
)
def test_wrong_fact_is_found(change: dict[str, Any], measure: set[str]) -> None:
    assert wrong(FACTS, SHOWN._replace(**change)) == measure


def test_fact_that_was_not_sent_is_not_counted() -> None:
    facts = FACTS | {"not_in_trace": ["question", "tool_calls.0.arguments", "tool_calls.0.result", "agents.0.name"]}

    assert wrong(facts, SHOWN._replace(question=None, tool_calls=())) == set()


def test_blame_of_another_agents_call_is_wrong() -> None:
    other = CALL | {"agent": "south_desk", "arguments": {"order_id": "B-20"}}
    south = {"name": "south_desk", "question": None, "answer": None, "outcome": "succeeded"}
    blamed = {"kind": "tool", "name": "order_lookup", "agent": "order_desk"}
    facts = FACTS | {"blamed": blamed, "tool_calls": [CALL, other], "agents": [*FACTS["agents"], south]}
    seen = SEEN._replace(agent="south_desk", arguments={"order_id": "B-20"})
    agents = [{"name": agent["name"], "outcome": "succeeded"} for agent in facts["agents"]]
    shown = SHOWN._replace(tool_calls=(SEEN, seen), agents=agents)

    assert wrong(facts, shown._replace(blamed=SEEN)) == set()
    assert wrong(facts, shown._replace(blamed=seen)) == {"blamed"}
    assert wrong(facts, shown._replace(blamed="model")) == {"blamed"}


def test_outcome_of_each_of_several_agents_counts() -> None:
    south = {"name": "south_desk", "question": "Why?", "answer": None, "outcome": "failed"}
    facts = FACTS | {"agents": [*FACTS["agents"], south]}
    first = {"name": "order_desk", "outcome": "succeeded"}

    assert wrong(facts, SHOWN._replace(agents=[first, {"name": "south_desk", "outcome": "failed"}])) == set()
    assert wrong(facts, SHOWN._replace(agents=[first, {"name": "south_desk", "outcome": "succeeded"}])) == {
        "agent outcome"
    }
    assert wrong(facts, SHOWN._replace(agents=[first])) == {"agent outcome"}


def test_agent_whose_name_was_not_sent_is_compared_by_its_place() -> None:
    north = {"name": "north_desk", "question": "Where?", "answer": "There.", "outcome": "succeeded"}
    south = {"name": "south_desk", "question": "Why?", "answer": "So.", "outcome": "failed"}
    lost = ["agents.0.name", "agents.1.name"]
    facts = FACTS | {"question": None, "answer": None, "agents": [north, south], "tool_calls": [], "not_in_trace": lost}
    shown = [
        {"name": "conversation 1", "question": "Where?", "answer": "There.", "outcome": "succeeded"},
        {"name": "conversation 2", "question": "Why?", "answer": "So.", "outcome": "failed"},
    ]

    assert wrong(facts, SHOWN._replace(question=None, answer=None, agents=shown)) == set()
    assert wrong(facts, SHOWN._replace(question=None, answer=None, agents=shown[:1])) == {
        "agent outcome", "answer", "question",
    }  # fmt: skip


def test_tally_counts_each_framework_and_all() -> None:
    marks = list(marks_of("loop", "success", FACTS, SHOWN._replace(answer=None), 1))

    rows = tally(marks)

    assert rows["loop"] == rows["all"]
    assert rows["all"]["answer"] == (0, 1)
    assert rows["all"]["question"] == (1, 1)
    assert json.dumps(rows)
