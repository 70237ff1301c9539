"""The history file of rollouts: it is locked, repaired after a torn write, and chained by hashes that reveal edits."""

from __future__ import annotations

import json
from contextlib import ExitStack
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relab.rollouts.errors import ReportFolderError
from relab.rollouts.reports.history import START, append_history, read_history, verify_history
from rig.children import read_line, send_line
from support.lab.forked import forked


@pytest.fixture
def history(tmp_path: Path) -> Path:
    path = tmp_path / "state" / "history.jsonl"
    for number in range(4):
        append_history(path, {"rollout_id": f"rollout-{number}", "verdict": "PASS"})
    return path


def lines_of(path: Path) -> list[bytes]:
    return path.read_bytes().splitlines(keepends=True)


def test_each_line_names_the_hash_of_the_line_before(history: Path) -> None:
    lines = read_history(history)

    assert lines[0]["previous"] == START
    assert [line["previous"] for line in lines[1:]] == [line["hash"] for line in lines[:-1]]
    assert verify_history(history) is None


def test_edited_line_is_named(history: Path) -> None:
    lines = lines_of(history)
    lines[1] = lines[1].replace(b"PASS", b"FAIL")
    history.write_bytes(b"".join(lines))

    found = verify_history(history)

    assert found is not None
    assert found.line == 2
    assert "changed" in found.message


@pytest.mark.parametrize("removed", [0, 1, 2])
def test_removed_line_is_noticed_at_the_next_one(history: Path, removed: int) -> None:
    lines = lines_of(history)
    del lines[removed]
    history.write_bytes(b"".join(lines))

    found = verify_history(history)

    assert found is not None
    assert found.line == removed + 1


def test_added_line_is_noticed(history: Path) -> None:
    lines = lines_of(history)
    lines.insert(2, b'{"verdict":"PASS"}\n')
    history.write_bytes(b"".join(lines))

    found = verify_history(history)

    assert found is not None
    assert found.line == 3


@given(place=st.integers(0, 10**6), bit=st.integers(0, 7))
def test_any_flipped_bit_is_noticed(tmp_path_factory: pytest.TempPathFactory, place: int, bit: int) -> None:
    path = tmp_path_factory.mktemp("bits") / "history.jsonl"
    for number in range(3):
        append_history(path, {"number": number})
    content = bytearray(path.read_bytes())
    # The final newline decides whether the last line is complete, so the test does not change it.
    place %= len(content) - 1
    content[place] ^= 1 << bit
    path.write_bytes(content)

    assert verify_history(path) is not None


def test_lines_of_another_program_are_kept_and_their_edits_noticed(tmp_path: Path) -> None:
    path = tmp_path / "history.jsonl"
    path.write_text('{"timestamp": "2025-10-18", "verdict": "FAIL"}\n')
    append_history(path, {"verdict": "PASS"})
    assert verify_history(path) is None

    path.write_text(path.read_text().replace("2025-10-18", "2025-10-19"))

    found = verify_history(path)
    assert found is not None
    assert found.line == 2


def test_torn_last_line_is_moved_aside_before_the_next_append(history: Path) -> None:
    with history.open("ab") as file:
        file.write(b'{"rollout_id":"rollout-4","verd')
    found = verify_history(history)
    assert found is not None
    assert found.line == 5
    assert "incomplete" in found.message

    append_history(history, {"rollout_id": "rollout-5"})

    assert [line["rollout_id"] for line in read_history(history)][-2:] == ["rollout-3", "rollout-5"]
    assert verify_history(history) is None
    assert history.with_name("history.jsonl.torn").read_bytes() == b'{"rollout_id":"rollout-4","verd\n'


def test_complete_last_line_without_a_newline_is_completed(history: Path) -> None:
    history.write_bytes(history.read_bytes()[:-1])

    append_history(history, {"rollout_id": "rollout-4"})

    assert len(read_history(history)) == 5
    assert verify_history(history) is None


def test_edited_last_line_that_has_lost_its_end_is_named_and_stays(history: Path) -> None:
    lines = lines_of(history)
    edited = lines[3].replace(b"PASS", b"FAIL")
    history.write_bytes(b"".join([*lines[:3], edited.rstrip(b"\n")]))

    found = verify_history(history)
    append_history(history, {"rollout_id": "rollout-4"})

    assert found is not None
    assert found.line == 4
    assert verify_history(history) == found
    assert lines_of(history)[3] == edited
    assert not history.with_name("history.jsonl.torn").exists()


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b'"verdict":"PASS"', b'"verdict":"FAIL","verdict":"PASS"'),
        (b'"verdict":"PASS"', b'"verdict": "PASS"'),
        (b'"verdict":"PASS"', b'"verdict":"\\u0050ASS"'),
        (b'"verdict":"PASS"', b'"verdict":NaN'),
        (b'"verdict":"PASS"', b'"verdict":"\\ud800"'),
        (b'"verdict":"PASS"', b'"verdict":' + b"[" * 100_000 + b"]" * 100_000),
        (b'"verdict":"PASS"', b'"verdict":1e999'),
    ],
    ids=["duplicate key", "space", "escape", "NaN", "surrogate", "deep nesting", "infinity"],
)
def test_edit_that_parsers_read_differently_is_noticed(history: Path, old: bytes, new: bytes) -> None:
    lines = lines_of(history)
    lines[2] = lines[2].replace(old, new)
    history.write_bytes(b"".join(lines))

    found = verify_history(history)

    assert found is not None
    assert found.line == 3
    assert [line["rollout_id"] for line in read_history(history)][:2] == ["rollout-0", "rollout-1"]
    append_history(history, {"rollout_id": "rollout-4"})
    assert verify_history(history) == found


def test_line_of_another_program_with_nan_is_kept(tmp_path: Path) -> None:
    path = tmp_path / "history.jsonl"
    path.write_text('{"timestamp": "2025-10-18", "delta": NaN}\n{"verdict": "PASS", "hash": "abc"}')

    append_history(path, {"rollout_id": "rollout-0"})

    assert verify_history(path) is None
    assert len(lines_of(path)) == 3


def test_history_longer_than_one_block_is_appended_to(tmp_path: Path) -> None:
    path = tmp_path / "history.jsonl"
    for size in (200_000, 3, 70_000, 1):
        append_history(path, {"text": "x" * size})

    assert verify_history(path) is None
    assert [len(line["text"]) for line in read_history(path)] == [200_000, 3, 70_000, 1]


def test_nul_and_lone_surrogates_are_escaped(tmp_path: Path) -> None:
    path = tmp_path / "history.jsonl"

    append_history(path, {"error": "a\x00b\ud800c", "windows": [{"problem": "\x00"}]})

    assert verify_history(path) is None
    assert read_history(path)[0]["error"] == "a\\x00b\\ud800c"
    assert read_history(path)[0]["windows"] == [{"problem": "\\x00"}]


def test_history_that_cannot_be_read_is_a_named_error(tmp_path: Path) -> None:
    with pytest.raises(ReportFolderError, match=str(tmp_path)):
        read_history(tmp_path)
    with pytest.raises(ReportFolderError, match=str(tmp_path)):
        verify_history(tmp_path)


def test_processes_that_append_at_once_lose_no_line(tmp_path: Path) -> None:
    path = tmp_path / "history.jsonl"
    with ExitStack() as running:
        writers = [
            running.enter_context(forked("support.rollouts.history_child", str(path), name, "25"))
            for name in ("a", "b")
        ]
        assert [read_line(writer) for writer in writers] == ["ready"] * 2
        for writer in writers:
            send_line(writer)
        assert [writer.wait() for writer in writers] == [0, 0]

    assert len(read_history(path)) == 50
    assert verify_history(path) is None


def test_history_that_does_not_exist_is_empty(tmp_path: Path) -> None:
    assert read_history(tmp_path / "absent.jsonl") == []
    assert verify_history(tmp_path / "absent.jsonl") is None


def test_values_are_stored_unchanged(tmp_path: Path) -> None:
    path = tmp_path / "history.jsonl"
    entry = {"text": "ΔP95\nnew line", "figure": 0.1, "absent": None}

    append_history(path, entry)

    stored = json.loads(path.read_text())
    assert {name: stored[name] for name in entry} == entry
