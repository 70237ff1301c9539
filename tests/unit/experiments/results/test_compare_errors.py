"""Comparison of variants whose trials all ended in errors."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from relab.experiments.results.compare import compare
from relab.stats.verdicts import Verdict
from rig.trial_rows import RUN_ID, trial_row, write_run


@pytest.mark.parametrize(
    ("broken", "gate", "verdict"),
    [
        (("base", "better"), "success>=-0.02", Verdict.INVALID),
        (("base",), "success>=-0.02", Verdict.INVALID),
        (("better",), "success>=-0.02", Verdict.FAIL),
        (("better",), "duration_ms<=5%", Verdict.INVALID),
    ],
)
def test_variant_whose_trials_all_ended_in_errors_passes_no_gate(
    tmp_path: Path, broken: tuple[str, ...], gate: str, verdict: Verdict
) -> None:
    rows = [
        trial_row(name, number, outcome="error" if name in broken else "success")
        for name in ("base", "better")
        for number in range(400)
    ]
    found = compare(write_run(tmp_path / "run", rows), gates=[gate], measure_false_passes=False)

    assert found.verdict is verdict
    assert ("ended in success or failure" in found.reason) == (verdict is Verdict.INVALID)


@pytest.mark.parametrize(("broken", "verdict"), [(("base", "better"), Verdict.INVALID), (("base",), Verdict.PASS)])
def test_forks_of_trials_with_errors_are_compared_if_one_ended_without_an_error(
    tmp_path: Path, broken: tuple[str, ...], verdict: Verdict
) -> None:
    rows = [
        trial_row(name, number, outcome="error" if name in broken else "success")
        for name in ("base", "better")
        for number in range(400)
    ]
    run = write_run(tmp_path / "run", rows)
    fork = {
        "point": "step 7",
        "set": {"temperature": 0.7},
        "parents": 400,
        "parents_of_variant": 400,
        "control": True,
        "parent_run_id": "run_0",
        "fallback_modes": {},
        "left_out": {},
    }
    (run / "manifest.json").write_text(json.dumps({"run_id": RUN_ID, "ext": {"fork": fork}}))

    found = compare(run, gates=["success>=-0.02"], measure_false_passes=False)

    assert found.verdict is verdict
    assert ("ended in success or failure" in found.reason) == (verdict is Verdict.INVALID)
