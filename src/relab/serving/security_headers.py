"""Security headers for every response.

They forbid browsers to guess content types, to send a referrer, and to show the pages in frames.
"""

from __future__ import annotations

from typing import Final

from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

NO_FRAMES: Final = "frame-ancestors 'none'"
NOTHING: Final = f"default-src 'none'; {NO_FRAMES}"
"""The Content-Security-Policy of responses that are not pages: a browser that displays one loads and runs nothing."""

HEADERS: Final = {
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Content-Security-Policy": NOTHING,
}


class SecurityHeaders:
    """ASGI middleware that adds the missing security headers to each response.

    If a response sets its own Content-Security-Policy without `frame-ancestors`, `frame-ancestors 'none'` is added to
    it.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Call the app; add the headers to the response if the connection is an HTTP request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in HEADERS.items():
                    headers.setdefault(name, value)
                policy = headers["Content-Security-Policy"]
                if "frame-ancestors" not in policy:
                    headers["Content-Security-Policy"] = f"{policy.rstrip('; ')}; {NO_FRAMES}"
            await send(message)

        await self._app(scope, receive, send_with_headers)
