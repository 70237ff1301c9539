"""The cookies of the responder's HTTP clients: none."""

from __future__ import annotations

from http.client import HTTPResponse
from http.cookiejar import CookieJar
from urllib.request import Request


class NoCookies(CookieJar):
    """Takes no cookie: by one a load balancer would send each request to the same worker, also one that has stopped to answer.

    What is not taken is not read either: whoever is asked may be broken or hostile, and a client lives for months.
    """

    def extract_cookies(self, response: HTTPResponse, request: Request) -> None:
        """Leave an answer's cookies where they are."""
