"""The page that describes the API in a real browser: it works without a network and accepts a token as password."""

from __future__ import annotations

from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect

from support.components.browser import Watched, chromium, watched_page
from support.lab.process import LabProcess, run_lab


def _shown(watched: Watched, server: LabProcess) -> Page:
    page = watched.page
    page.goto(f"{server.url}/docs")
    expect(page.locator(".opblock").first).to_be_visible(timeout=60_000)
    assert watched.complaints == []
    assert {address.partition("?")[0] for address in watched.requests} <= {
        f"{server.url}{path}"
        for path in ("/docs", "/docs/swagger-ui.css", "/docs/swagger-ui-bundle.js", "/docs/start.js", "/openapi.json")
    }
    return page


def _try(page: Page) -> str:
    """Send a request from the page and return the status that it shows."""
    block = page.locator(".opblock", has_text="/agent-runs").filter(has_text="List agent runs, newest first")
    block.locator(".opblock-summary-control").click()
    block.get_by_role("button", name="Try it out").click()
    block.get_by_role("button", name="Execute").click()
    status = block.locator(".live-responses-table .response-col_status").last
    expect(status).to_be_visible(timeout=30_000)
    return status.inner_text().split()[0]


@pytest.mark.full
def test_the_page_works_without_a_network_and_takes_a_token_as_a_password(tmp_path: Path) -> None:
    with chromium() as browser, LabProcess.serve(tmp_path, "--workers", "0") as server:
        assert _try(_shown(watched_page(browser), server)) == "200"

        token = run_lab("auth", "create-token", "--name", "reader", "--scope", "read", home=tmp_path).stdout.strip()
        with LabProcess.serve(tmp_path, "--workers", "0") as closed:
            _check_closed(browser, closed, token)


def _check_closed(browser: Browser, server: LabProcess, token: str) -> None:
    context = browser.new_context(http_credentials={"username": "anybody", "password": token})
    watched = Watched(context.new_page())
    page = _shown(watched, server)
    assert _try(page) == "401"

    # A reload would keep the operation open, because the URL names the operation.
    page.goto(f"{server.url}/docs")
    expect(page.locator(".opblock").first).to_be_visible(timeout=60_000)
    page.get_by_role("button", name="Authorize").first.click()
    page.locator(".auth-container input").first.fill(token)
    page.locator(".auth-btn-wrapper").get_by_role("button", name="Apply credentials").first.click()
    page.get_by_role("button", name="Close").first.click()
    assert _try(page) == "200"
    context.close()
