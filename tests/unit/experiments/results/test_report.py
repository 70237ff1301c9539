"""The HTML report: one file that loads nothing, escapes its content, and has a table beside every chart."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import altair as alt
import pytest
import vl_convert

from relab.charts.pages import embeddable, visible
from relab.experiments.results import report
from relab.experiments.results.analysis import SUMMARY, analyze_run
from relab.experiments.results.report import write_report
from relab.experiments.results.result_tables import ANALYSIS
from rig.trial_rows import trial_row, write_run

HOSTILE = (
    "</script><script>window.pwned=1</script><img src=x onerror=alert(1)>\x00\x1b[31m\u202e\u2028]]>&amp;{{ 7*7 }}"
)


class Page(HTMLParser):
    """A parser that collects the tags, scripts, table rows and text of a report."""

    def __init__(self, path: Path) -> None:
        super().__init__(convert_charrefs=True)
        self.raw = path.read_bytes().decode()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.scripts: list[str] = []
        self.rows: list[list[str]] = []
        self.text = ""
        self._tag = ""
        self.feed(self.raw)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self._tag = tag
        self.tags.append((tag, dict(attrs)))
        if tag == "script":
            self.scripts.append("")
        elif tag == "tr":
            self.rows.append([])
        elif tag in {"td", "th"}:
            self.rows[-1].append("")

    def handle_endtag(self, tag: str) -> None:  # noqa: ARG002 the parser's signature
        self._tag = ""

    def handle_data(self, data: str) -> None:
        if self._tag == "script":
            self.scripts[-1] += data
            return
        self.text += data
        if self._tag in {"td", "th"} or (self._tag == "span" and self.rows):
            self.rows[-1][-1] += data

    @property
    def specs(self) -> list[dict[str, Any]]:
        return json.loads(self.scripts[0])

    def count(self, tag: str) -> int:
        return sum(name == tag for name, _ in self.tags)


def rows_of(tasks: int = 12, repeats: int = 2) -> list[dict[str, Any]]:
    return [
        trial_row(
            variant,
            task,
            repeat,
            outcome="success" if (task + repeat) % 3 or variant == "better" else "error",
            duration_ms=100.0 + task * 7 + repeat,
            metrics={"cost_usd": 0.01 * (task + 1), "accuracy": task / tasks},
        )
        for task in range(tasks)
        for repeat in range(repeats)
        for variant in ("base", "better")
    ]


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Page:
    run_dir = write_run(
        tmp_path_factory.mktemp("page") / "run", rows_of(), replications=2, primary=["success", "accuracy"], secondary=["latency_ms", "cost_usd"]
    )  # fmt: skip
    return Page(write_report(run_dir))


def test_report_is_one_file_that_loads_nothing(page: Page) -> None:
    for tag, attributes in page.tags:
        for name, value in attributes.items():
            assert name not in {"src", "href", "srcset", "data", "action", "background"}, (tag, name, value)
            assert "//" not in (value or "") or name == "content"
        assert tag not in {"link", "iframe", "object", "embed", "base", "img"}
    assert not re.search(r"@import|url\s*\(", page.raw.split("</style>")[0])
    # The data of charts does not contain the URL of a schema either.
    assert "//" not in page.scripts[0]


def test_only_its_own_scripts_may_run(page: Page) -> None:
    (policy,) = [attributes["content"] or "" for tag, attributes in page.tags if "http-equiv" in attributes]

    assert "default-src 'none'" in policy
    assert "unsafe-eval" not in policy
    assert page.count("script") == len(page.scripts) == 3
    for script in page.scripts[1:]:
        digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
        assert f"'sha256-{digest}'" in policy
    assert not [attributes for _, attributes in page.tags if any(name.startswith("on") for name in attributes)]


def test_every_chart_is_valid_and_beside_its_table(page: Page) -> None:
    places = [attributes for _, attributes in page.tags if "data-chart" in attributes]

    assert [place["data-chart"] for place in places] == [str(number) for number in range(len(page.specs))]
    assert all(place["role"] == "img" and place["aria-label"] for place in places)
    assert page.count("table") >= len(places)
    # This raises for a specification that violates the schema of Vega-Lite; the product does not check that.
    assert all(alt.Chart.from_dict(spec) for spec in page.specs)
    drawn = [vl_convert.vegalite_to_svg(json.dumps(spec)) for spec in page.specs]
    # Success, accuracy; four differences; tasks; latency; cost.
    assert len(drawn) == 9
    assert all(svg.startswith("<svg") and "aria-roledescription" in svg for svg in drawn)
    assert "success: variant less baseline" in drawn[2]


def test_summary_table_has_counts_rates_and_verdicts(page: Page) -> None:
    (base,) = [row for row in page.rows if row[:1] == ["base (baseline)"]]

    assert base[1:6] == ["24", "16", "0", "8", "0"]
    assert base[6] == "66.7%"
    assert base[8] == "100.0%"
    judged = {(row[0], row[2]): row[1] for row in page.rows if row[2:3] and row[2].endswith("is better")}
    assert judged == {("better", "success is better"): "PASS", ("better", "accuracy is better"): "EDGE"}


def test_pass_at_k_and_pass_hat_k_are_listed(page: Page) -> None:
    found = [row for row in page.rows if row[:2] == ["base", "2"]]

    assert found == [["base", "2", "100.0%", "33.3%", "12"]]


def test_the_trials_that_failed_are_listed(page: Page) -> None:
    assert ["trial_base_0_0", "base", "task_0", "0", "error", "harness_process_error", "it broke"] in page.rows
    assert "8 in all." in page.text


def test_hostile_text_stays_text(tmp_path: Path) -> None:
    rows = rows_of()
    variant = 'b\\"+(1)+"<script>\u2028\u202e'
    for row in rows:
        row["variant_id"] = variant if row["variant_id"] == "better" else "base"
        row["task_id"] = f"{HOSTILE}{row['task_index']}"
        row["metrics"][HOSTILE] = 1.0 + row["task_index"]
        if row["outcome"] == "error":
            row |= {"error_message": HOSTILE * 3, "error_type": HOSTILE}
    run_dir = write_run(
        tmp_path / "run", rows, variants=[variant], replications=2, primary=["success", HOSTILE], name=f"name {HOSTILE.replace(chr(0), '')}"
    )  # fmt: skip
    page = Page(write_report(run_dir))

    assert page.count("script") == 3
    assert page.count("img") == 0
    assert not any("onerror" in attributes for _, attributes in page.tags)
    assert "<script>window.pwned" in page.text
    assert "{{ 7*7 }}" in page.text
    for letter in "\x00\x1b\u202e":
        assert letter not in page.raw
    assert "\\u0000\\u001b[31m\\u202e" in page.text
    # The embedded JSON is escaped too, and keeps its value.
    assert not re.search(r"[<>&\u2028]", page.scripts[0])
    assert visible(f"{HOSTILE}0") in json.dumps(page.specs, ensure_ascii=False).encode().decode().replace("\\\\", "\\")
    for spec in page.specs:
        assert "<script" not in vl_convert.vegalite_to_svg(json.dumps(spec))
    # Vega-Lite evaluates titles and sort lists as expressions, so hostile text may be in the data only.
    assert not [spec for spec in page.specs if HOSTILE[:20] in json.dumps({**spec, "data": 0, "datasets": 0})]


def test_embedded_json_keeps_its_value_without_html_characters() -> None:
    value = {"a": "</script><!--", "b": ["\u2028", "&", "\ud83d\ude00"], "c": 1.5, "d": None}
    text = embeddable(value)

    assert json.loads(text) == {**value, "b": ["\u2028", "&", "\U0001f600"]}
    assert not re.search(r"[<>&\u2028]", text)


def test_many_tasks_are_sampled_evenly(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(report, "MAX_TASKS", 10)
    rows = [
        trial_row(variant, task, outcome="success" if task % 100 >= 50 else "failure")
        for task in range(100)
        for variant in ("base", "better")
    ]
    page = Page(write_report(write_run(tmp_path / "run", rows)))

    (spec,) = [spec for spec in page.specs if "facet" in spec]
    (values,) = spec["datasets"].values() if "datasets" in spec else (spec["data"]["values"],)
    assert len(values) == 20
    assert sorted(value["rate"] for value in values) == [0.0] * 10 + [1.0] * 10
    assert "10 of 100 are shown" in page.text


def test_first_of_many_failures_are_listed(tmp_path: Path) -> None:
    rows = [trial_row(variant, task, outcome="error", error_message="x" * 5_000) for task in range(120) for variant in ("base", "better")]  # fmt: skip
    page = Page(write_report(write_run(tmp_path / "run", rows)))

    listed = [row for row in page.rows if row[0].startswith("trial_")]
    assert len(listed) == 200
    assert max(len(row[-1]) for row in listed) == 500
    assert "240 in all; the first 200 are listed" in page.text


def test_a_run_with_nothing_to_show_says_so(tmp_path: Path) -> None:
    page = Page(write_report(write_run(tmp_path / "run", [], variants=())))

    for text in (
        "No trial has a result.",
        "No trial was timed.",
        "No trial has a cost_usd, or spans with tokens of models whose prices are known.",
        "Every trial succeeded.",
    ):
        assert text in page.text


def test_estimated_cost_is_marked_and_shown_beside_a_reported_cost(tmp_path: Path) -> None:
    costs = {"base": {"cost_usd": 500.0}, "better": {"estimated_cost_usd": 0.25}}
    rows = [trial_row(variant, task, metrics=metrics) for variant, metrics in costs.items() for task in range(4)]
    rows += [trial_row("both", task, metrics=costs["base" if task else "better"]) for task in range(4)]
    page = Page(write_report(write_run(tmp_path / "run", rows, variants=("better", "both"))))

    totals = {row[0]: row[-1] for row in page.rows if row[0] in {"base (baseline)", "better", "both"} and len(row) > 10}
    assert totals == {"base (baseline)": "2,000", "better": "1 (estimated)", "both": "1,500 + 0.25 (estimated)"}
    assert "4 tasks, 1 repeat," in page.text


def test_report_from_a_summary_of_an_earlier_version_is_written_without_estimated_costs(tmp_path: Path) -> None:
    """An earlier version summarized a harness's own metric `estimated_cost_usd` without its total and quantiles."""
    rows = [trial_row(v, task, metrics={"estimated_cost_usd": 0.25}) for v in ("base", "better") for task in range(4)]
    run_dir = write_run(tmp_path / "run", rows)
    analyze_run(run_dir)
    summary = json.loads((run_dir / ANALYSIS / SUMMARY).read_bytes())
    for figures in summary["variants"].values():
        del figures["estimated_cost_usd_total"], figures["quantiles"]["estimated_cost_usd"]
    (run_dir / ANALYSIS / SUMMARY).write_text(json.dumps(summary))

    assert "mean estimated cost" not in Page(write_report(run_dir)).text


def test_estimate_without_an_interval_is_drawn_as_a_dot(tmp_path: Path) -> None:
    rows = [trial_row(v, task, metrics={"score": 1.0}) for v in ("base", "better") for task in range(5)]
    page = Page(write_report(write_run(tmp_path / "run", rows, primary=["score"])))

    assert all(vl_convert.vegalite_to_svg(json.dumps(spec)) for spec in page.specs)
    assert ["better", "0", "—", "—"] in [row[:4] for row in page.rows]
