"""The charts of rollouts and searches: valid Vega-Lite, with or without data."""

from __future__ import annotations

from typing import Any

import altair as alt
import pytest
from jsonschema import ValidationError

from relab.rollouts.judging import effects_by_round
from relab.rollouts.models import Arm
from relab.rollouts.reports.page_charts import interval_chart, windows_chart
from relab.rollouts.search.candidates import ScreenedCandidate, SearchResult
from relab.rollouts.search.chart import candidates_chart
from unit.rollouts.rollout_windows import plan_of, rollout

PLAN = plan_of(3, experiment="factorial: true")
CHANGES = {Arm.A: 0.0, Arm.B: -30.0, Arm.C: -28.0, Arm.D: -2.0}
WINDOWS = rollout(PLAN, 3, 0, sd=0.08, of_arm=CHANGES.__getitem__)
HOSTILE = "</script>"
CANDIDATES = (
    ScreenedCandidate(number=1, values={HOSTILE: 1}, rollout_id=None, estimate_pct=-5.0, low_pct=-9.0, high_pct=1.0),
    ScreenedCandidate(number=2, values={"b": 2}, rollout_id=None, problem=HOSTILE),
)
SPECS = {
    "windows": windows_chart(WINDOWS, unit="P95 latency, ms"),
    "no windows": windows_chart([], unit="judged metric"),
    "intervals": interval_chart(effects_by_round(WINDOWS, PLAN), PLAN.thresholds),
    "no intervals": interval_chart([], PLAN.thresholds),
    "candidates": candidates_chart(SearchResult.model_construct(candidates=CANDIDATES, confirmations=(), chosen=1)),
    "no estimate": candidates_chart(
        SearchResult.model_construct(candidates=CANDIDATES[1:], confirmations=(), chosen=None)
    ),
}


@pytest.mark.parametrize("spec", SPECS.values(), ids=SPECS.keys())
def test_chart_is_valid_vega_lite(spec: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        alt.Chart.from_dict({**spec, "layer": [{**spec["layer"][0], "mark": "none"}]}, validate=True)

    assert len(alt.Chart.from_dict(spec, validate=True).to_dict()["layer"]) == 3


def test_text_from_outside_is_only_in_the_data() -> None:
    assert all(HOSTILE not in str({**spec, "data": None}) for spec in SPECS.values())
    assert HOSTILE in str(SPECS["candidates"]["data"])
