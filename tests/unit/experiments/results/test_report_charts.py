"""The charts of a report: valid Vega-Lite for all figures and texts."""

from __future__ import annotations

from typing import Any

import altair as alt
import pytest

from relab.experiments.results.report_charts import distribution_chart, forest_chart, means_chart, tasks_chart

VARIANTS = ["control", "</script>"]
ESTIMATES = [
    {"variant": "control", "mean": 1.0, "low": 0.5, "high": 1.5},
    {"variant": "</script>", "mean": float("nan"), "low": None, "high": None},
]
CELLS = [{"variant": "control", "task": "task", "rate": 0.5, "trials": 2, "column": 0, "line": 0}]
SHARES = [{"variant": name, "value": value, "share": 0.5} for name, value in zip(VARIANTS, (1.0, 1_000.0), strict=True)]
SPECS = {
    "means": means_chart("latency_ms", ESTIMATES, variants=VARIANTS),
    "rates": means_chart("success", ESTIMATES, variants=VARIANTS, is_rate=True),
    "forest": forest_chart("latency_ms", ESTIMATES[1:], variants=VARIANTS),
    "tasks": tasks_chart(CELLS, variants=VARIANTS),
    "no tasks": tasks_chart([], variants=VARIANTS),
    "distribution": distribution_chart("duration (ms)", SHARES, variants=VARIANTS),
    "distribution with zeros": distribution_chart(
        "tokens", [{**SHARES[0], "value": 0.0}, SHARES[1]], variants=VARIANTS
    ),
    "no distribution": distribution_chart("tokens", [], variants=VARIANTS),
}


@pytest.mark.parametrize("spec", SPECS.values(), ids=SPECS.keys())
def test_chart_is_valid_vega_lite(spec: dict[str, Any]) -> None:
    alt.Chart.from_dict(spec, validate=True)


def test_external_text_is_not_used_as_a_title() -> None:
    spec = means_chart("</script>", ESTIMATES, variants=VARIANTS)

    assert {layer["encoding"]["x"]["title"] for layer in spec["layer"]} == {"value"}


def test_wide_range_has_a_logarithmic_scale() -> None:
    assert SPECS["distribution"]["encoding"]["x"]["scale"]["type"] == "log"
    assert SPECS["distribution with zeros"]["encoding"]["x"]["scale"]["type"] == "symlog"
