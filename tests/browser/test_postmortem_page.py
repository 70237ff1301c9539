"""A postmortem page in a real browser, with the API's headers: charts with marks, hostile text, an opaque origin."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Route
from starlette.testclient import TestClient

from relab.bootstrap import build
from relab.core.clock import SystemClock
from relab.settings import load_settings
from support.api.client import running_api
from support.components.browser import Watched, chromium, watched_page
from support.incidents.stored import attempted, begun, handed_over, mended

HOSTILE = "</script><script>window.pwned=1</script><img src=x onerror=window.pwned=1><b>bold</b>"
ADDRESS = "http://relab.test/postmortem"


@pytest.fixture(scope="module")
def api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TestClient]:
    services = build(load_settings(tmp_path_factory.mktemp("home")))
    with running_api(services) as client:
        log, now_us = services.incidents.log, SystemClock().now_us()
        mended(log, "over", now_us)
        handed_over(log, "handed", now_us, [HOSTILE])
        attempted(log, begun(log, "hostile", now_us, title=HOSTILE), now_us, [HOSTILE])
        begun(log, "open", now_us)
        yield client


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as started:
        yield started


def opened(browser: Browser, api: TestClient, target: str, width: int = 1_280, scheme: str = "light") -> Watched:
    """Open the postmortem of a target's incident in a browser, with the headers of the API's response."""
    (incident,) = api.get("/agent/incidents", params={"target": target}).json()["items"]
    answer = api.get(f"/agent/incidents/{incident['incident_id']}/postmortem", headers={"accept": "text/html"})
    watched = watched_page(browser, width, scheme)

    def send(route: Route) -> None:
        kept = {name: answer.headers[name] for name in ("content-type", "content-security-policy")}
        route.fulfill(status=200, headers=kept, body=answer.text)

    watched.page.route(ADDRESS, send)
    watched.page.goto(ADDRESS)
    for place in watched.page.locator("[data-chart]").all():
        place.locator("svg.marks").wait_for()
    return watched


@pytest.mark.parametrize(("scheme", "width"), [("light", 1_280), ("dark", 420)])
def test_page_shows_all_marks_loads_nothing_and_has_an_opaque_origin(
    browser: Browser, api: TestClient, scheme: str, width: int
) -> None:
    watched = opened(browser, api, "over", width, scheme)

    assert watched.complaints == []
    assert watched.requests == [ADDRESS]
    lines = watched.page.locator("[data-chart='0'] svg .layer_1_marks line").count()
    # Onset, detection, two actions with one verification each, and the end.
    assert lines == 7
    assert watched.page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
    # The origin is opaque.
    assert watched.page.evaluate("self.origin") == "null"
    watched.page.close()


@pytest.mark.parametrize("target", ["hostile", "handed"])
def test_hostile_text_is_shown_and_does_nothing(browser: Browser, api: TestClient, target: str) -> None:
    watched = opened(browser, api, target)

    assert watched.page.evaluate("window.pwned") is None
    assert watched.page.locator("img, b").count() == 0
    assert HOSTILE in watched.page.locator("main").inner_text()
    assert watched.complaints == []
    watched.page.close()


def test_open_incident_is_marked_at_the_top(browser: Browser, api: TestClient, tmp_path: Path) -> None:
    watched = opened(browser, api, "open")

    assert watched.page.locator("header strong").inner_text().startswith("This incident is not over")
    assert watched.page.locator("[data-chart]").count() == 1
    assert watched.page.screenshot(path=tmp_path / "open.png")
    watched.page.close()
