"""A real browser without network access, and the errors of its pages."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from playwright.sync_api import Browser, Page, sync_playwright

from support.components.required import require_program

INSTALL = ".ci/system-packages"
_ARGUMENTS = (
    # Its own sandbox cannot be set up by root; what it opens is ours.
    "--no-sandbox",
    # Nothing but what a test serves: no updates, no telemetry.
    "--disable-background-networking",
    "--disable-component-update",
)


@dataclass
class Watched:
    """A page, with its errors and requests.

    Attributes:
        complaints: errors and warnings of its console, and what its scripts threw.
        requests: the addresses that it asked for.
    """

    page: Page
    complaints: list[str] = field(default_factory=list)
    requests: list[str] = field(default_factory=list)


@contextmanager
def chromium() -> Iterator[Browser]:
    """Start Debian's Chromium, which must be installed."""
    require_program("chromium", INSTALL)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=[*_ARGUMENTS])
        try:
            yield browser
        finally:
            browser.close()


def watched_page(browser: Browser, width: int = 1_280, scheme: str = "light") -> Watched:
    """Return a new page of this width that prefers these colours."""
    dark = scheme == "dark"
    page = browser.new_page(viewport={"width": width, "height": 900}, color_scheme="dark" if dark else "light")
    watched = Watched(page)
    page.on("console", lambda message: message.type in {"error", "warning"} and watched.complaints.append(message.text))
    page.on("pageerror", lambda error: watched.complaints.append(str(error)))
    page.on("request", lambda request: watched.requests.append(request.url))
    return watched
