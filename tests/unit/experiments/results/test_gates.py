"""Gates as texts."""

from __future__ import annotations

from pathlib import Path

import pytest

from relab.experiments.results.compare import compare
from relab.experiments.results.gates import GateInvalidError, parse_gates


def test_malformed_gate_is_rejected_before_the_run_is_read(tmp_path: Path) -> None:
    with pytest.raises(GateInvalidError, match="'success > 0'"):
        compare(tmp_path / "missing", gates=["success > 0"])


def test_gates_are_parsed_in_their_order() -> None:
    shares = [
        (gate.metric, gate.is_relative, gate.threshold) for gate in parse_gates(["latency_ms<=5%", "score>=-0.02"])
    ]
    assert shares == [("latency_ms", True, 0.05), ("score", False, -0.02)]
