"""The seal of a run: a seal that relab did not write is damaged."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from relab.experiments.proof import seal
from relab.experiments.proof.damage import SealCheck
from relab.experiments.proof.seal import SealDamagedError, read_seal, write_seal
from relab.experiments.records.file_names import LOCK, PAUSE_REQUEST


@pytest.mark.parametrize("end", [5, None, {}, {"folders": 7}])
def test_seal_with_invalid_totals_is_damaged(tmp_path: Path, end: Any) -> None:
    write_seal(tmp_path)
    path = tmp_path / "seal.jsonl"
    lines = path.read_bytes().splitlines(keepends=True)
    check = json.loads(lines[-2])["check"]
    payload = json.dumps({"end": end}).encode()[:-1]
    lines[-1] = payload + b',"check":"' + seal._check_of(check, payload).encode() + b'"}\n'
    path.write_bytes(b"".join(lines))

    with path.open("rb") as file, pytest.raises(SealDamagedError):
        list(read_seal(file))


@pytest.mark.parametrize(
    "fields",
    [
        {"links": []},
        {"links": "a"},
        {"others": 5},
        {"others": [1]},
        {"others": [["a"]]},
        {"problem": {"a": 1}},
        {"files": []},
        {"files": {"a": 5}},
        {"files": {"a": ["5", "0" * 64, ""]}},
        {"files": {"a": [5, 0, ""]}},
        {"files": {"a": [5, "0" * 64, 7]}},
        {"files": {"a": [5, "0" * 64]}},
        {"folders": [1]},
    ],
)
def test_forged_seal_with_values_of_other_types_is_damage(tmp_path: Path, fields: dict[str, Any]) -> None:
    (tmp_path / "a").write_text("12345")
    write_seal(tmp_path)
    path = tmp_path / "seal.jsonl"
    lines = path.read_bytes().splitlines(keepends=True)
    check = json.loads(lines[0])["check"]
    payload = json.dumps({"folder": "", **fields}).encode()[:-1]
    lines[1] = payload + b',"check":"' + seal._check_of(check, payload).encode() + b'"}\n'
    path.write_bytes(b"".join(lines))
    found = SealCheck(tmp_path)

    found.run()

    assert (found.damage[0].path, found.damage[0].line) == ("seal.jsonl", 2)
    assert "is not a line of a seal" in found.damage[0].what


@pytest.mark.parametrize("is_sealed_with_it", [True, False])
def test_request_to_pause_during_the_sealing_is_no_damage(tmp_path: Path, is_sealed_with_it: bool) -> None:
    request = tmp_path / PAUSE_REQUEST
    request.parent.mkdir()
    (tmp_path / LOCK).touch()
    if is_sealed_with_it:
        request.write_text("1")
    write_seal(tmp_path)
    if is_sealed_with_it:
        request.unlink()
    else:
        request.write_text("1")
    found = SealCheck(tmp_path)

    found.run()

    assert found.damage == []
