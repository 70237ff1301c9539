"""A cookie jar for the responder's HTTP clients that stores no cookies."""

from __future__ import annotations

from http.client import HTTPResponse
from http.cookiejar import CookieJar
from urllib.request import Request


class NoCookies(CookieJar):
    """Stores no cookies: with one, a load balancer could send each request to the same worker, even after it has hung.

    It does not parse cookies either: the server may be broken or hostile, and the responder runs for months.
    """

    def extract_cookies(self, response: HTTPResponse, request: Request) -> None:
        """Ignore the cookies of an answer."""
