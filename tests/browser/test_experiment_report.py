"""The report of an experiment, opened from the disk in a real browser: without a network, with hostile content."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser

from relab.experiments.results.report import write_report
from rig.trial_rows import trial_row, write_run
from support.components.browser import Watched, chromium, watched_page

HOSTILE = "</script><script>window.pwned=1</script><img src=x onerror=window.pwned=1><b>bold</b>"
CONTRAST = """element => {
  const parts = text => text.match(/[0-9.]+/g).map(Number);
  const light = ([r, g, b]) => [r, g, b].map(v => (v /= 255) <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4)
    .reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0);
  let ground = element;
  while (parts(getComputedStyle(ground).backgroundColor)[3] === 0) ground = ground.parentElement;
  const pair = [light(parts(getComputedStyle(element).color)), light(parts(getComputedStyle(ground).backgroundColor))];
  return (Math.max(...pair) + 0.05) / (Math.min(...pair) + 0.05);
}"""
"""JavaScript that returns the contrast ratio of an element's text and background, as WCAG 2 defines it."""


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    rows: list[dict[str, Any]] = [
        trial_row(
            variant,
            task,
            repeat,
            outcome="success" if (task * 5 + repeat) % 7 > 2 or (variant == "better" and task % 4) else "error",
            duration_ms=100.0 + task * 7 + repeat,
            metrics={
                "cost_usd": 0.01 * (task + 1),
                "accuracy": (task + (3 + task % 4) * (variant == "better")) / 40 + repeat / 100,
            },
            error_message=HOSTILE,
        )
        for task in range(30)
        for repeat in range(2)
        for variant in ("base", "better")
    ]
    run_dir = write_run(
        tmp_path_factory.mktemp("run"), rows, replications=2, primary=["success", "accuracy"], name=HOSTILE
    )
    return write_report(run_dir)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as started:
        yield started


@pytest.fixture(
    scope="module",
    params=[("light", 1_280), ("dark", 1_280), ("dark", 320)],
    ids=lambda given: f"{given[0]} {given[1]}",
)
def opened(browser: Browser, report: Path, request: pytest.FixtureRequest) -> Iterator[Watched]:
    """Open the report once for all tests of a width and scheme, because drawing the charts takes a second."""
    scheme, width = request.param
    watched = watched_page(browser, width, scheme)
    watched.page.goto(report.as_uri())
    for place in watched.page.locator("[data-chart]").all():
        place.locator("svg.marks").wait_for()
    yield watched
    watched.page.close()


def test_every_chart_is_drawn_and_nothing_is_loaded(opened: Watched, report: Path) -> None:
    assert opened.complaints == []
    assert opened.requests == [report.as_uri()]
    marks = opened.page.eval_on_selector_all(
        "[data-chart]", "places => places.map(place => place.querySelectorAll('svg .mark-group path, svg path').length)"
    )
    assert len(marks) == 7
    assert min(marks) > 1


def test_report_shows_text_that_fits_the_page(opened: Watched) -> None:
    page = opened.page

    assert page.locator("h1").inner_text() == HOSTILE
    assert page.evaluate("window.pwned") is None
    assert page.locator("img, b").count() == 0
    assert HOSTILE in page.locator("#failures ~ * td, section:last-of-type td").all_inner_texts()
    assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")


def test_charts_are_as_wide_as_the_page_at_most_except_the_grid_of_tasks(opened: Watched) -> None:
    widths = "places => places.map(place => [place.scrollWidth <= place.clientWidth, place.ariaLabel])"
    too_wide = [label for fits, label in opened.page.eval_on_selector_all("[data-chart]", widths) if not fits]

    assert [label for label in too_wide if "task" not in label] == []


def test_text_has_enough_contrast_with_its_background(opened: Watched) -> None:
    for selector in ("h1", ".soft", "td", "th", ".verdict.PASS", "main"):
        assert opened.page.locator(selector).first.evaluate(CONTRAST) >= 4.5, selector


def test_the_verdict_comes_first(opened: Watched) -> None:
    first = opened.page.locator("section").first

    assert first.locator("h2").inner_text().startswith("Verdict: ")
    gates = first.locator("tbody tr").all_inner_texts()
    assert [gate.split("\t")[0] for gate in gates] == ["better", "better"]
    assert any("PASS" in gate and "accuracy is better" in gate for gate in gates)


def test_hovering_over_a_point_shows_its_tooltip(browser: Browser, report: Path) -> None:
    watched = watched_page(browser)
    watched.page.goto(report.as_uri())
    point = watched.page.locator("[data-chart='0'] svg .mark-symbol path").first
    point.hover()

    tooltip = watched.page.locator("#vg-tooltip-element.visible")
    tooltip.wait_for()
    assert "base" in tooltip.inner_text()
    assert watched.complaints == []
    watched.page.close()
