"""The seal of a run: a seal that relab did not write is damaged."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from relab.experiments.proof import seal
from relab.experiments.proof.seal import SealDamagedError, read_seal, write_seal


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
