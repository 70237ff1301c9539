"""The page of a rollout, opened from the disk in a real browser: without a network, with hostile content."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser

from relab.rollouts.models import Arm
from relab.rollouts.reports import render_page
from support.components.browser import Watched, chromium, watched_page
from unit.rollouts.rollout_records import record_of
from unit.rollouts.rollout_windows import plan_of, rollout

HOSTILE = "</script><script>window.pwned=1</script><img src=x onerror=window.pwned=1>"


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    plan = plan_of(8, experiment="factorial: true", rest="early_stop: true")
    change = {Arm.A: 0.0, Arm.B: -30.0, Arm.C: -28.0, Arm.D: -2.0}
    windows = rollout(plan, 8, 0, sd=0.08, of_arm=change.__getitem__)
    path = tmp_path_factory.mktemp("page") / "page.html"
    path.write_text(render_page(record_of(plan=plan, windows=windows, target=HOSTILE)))
    return path


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as started:
        yield started


@pytest.fixture(scope="module", params=[("light", 1_280), ("dark", 420)], ids=lambda given: f"{given[0]} {given[1]}")
def opened(browser: Browser, file: Path, request: pytest.FixtureRequest) -> Iterator[Watched]:
    """Open the page once for all tests of a width and scheme, because tests only read the page."""
    scheme, width = request.param
    watched = watched_page(browser, width, scheme)
    watched.page.goto(file.as_uri())
    for place in watched.page.locator("[data-chart]").all():
        place.locator("svg.marks").wait_for()
    yield watched
    watched.page.close()


def test_charts_are_drawn_and_nothing_is_loaded(opened: Watched, file: Path) -> None:
    assert opened.complaints == []
    assert opened.requests == [file.as_uri()]
    points = opened.page.locator("[data-chart='0'] .mark-symbol.role-mark path")
    assert points.count() == 32
    rounds = opened.page.locator("[data-chart='1'] .mark-symbol.role-mark path")
    assert rounds.count() == 8


def test_verdict_and_rollback_are_shown_and_hostile_text_does_nothing(opened: Watched) -> None:
    assert opened.page.locator(".verdict").inner_text() == "PASS"
    assert "ops/flags" in opened.page.locator("pre").first.inner_text()
    assert opened.page.evaluate("window.pwned") is None
