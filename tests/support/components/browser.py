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
    # Chromium cannot set up its sandbox as root, and it opens only our own pages.
    "--no-sandbox",
    # The browser must send no requests of its own, such as for updates or telemetry.
    "--disable-background-networking",
    "--disable-component-update",
)


@dataclass
class Watched:
    """A page, with its errors and requests.

    Attributes:
        complaints: errors and warnings of its console, and uncaught errors of its scripts.
        requests: the URLs that it requested.
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
    """Return a new page of this width in pixels that prefers this colour scheme."""
    dark = scheme == "dark"
    page = browser.new_page(viewport={"width": width, "height": 900}, color_scheme="dark" if dark else "light")
    watched = Watched(page)
    page.on("console", lambda message: message.type in {"error", "warning"} and watched.complaints.append(message.text))
    page.on("pageerror", lambda error: watched.complaints.append(str(error)))
    page.on("request", lambda request: watched.requests.append(request.url))
    return watched
