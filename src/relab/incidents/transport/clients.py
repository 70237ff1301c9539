"""HTTP clients of the responder: a new one for each request, so that requests share no state."""

from __future__ import annotations

from http.client import HTTPResponse
from http.cookiejar import CookieJar
from typing import Any
from urllib.request import Request

import httpx


class NoCookies(CookieJar):
    """A cookie jar that neither parses nor stores cookies."""

    # Do not store: with a cookie, a load balancer could send every request to one worker, which may hang. Do not parse:
    # the server may be hostile.
    def extract_cookies(self, response: HTTPResponse, request: Request) -> None:
        """Ignore the cookies of an answer."""


class SingleUseClients:
    """Creates a new HTTP client for each request, but loads the TLS certificates only once.

    Args:
        is_secure: whether requests use TLS. If not, no certificates are loaded, because loading is slow.
        trust_env: whether to use the proxies and certificates that environment variables name.
        given: further keyword arguments for `httpx.AsyncClient`.

    Raises:
        OSError, ValueError, httpx.InvalidURL, ImportError: an argument is invalid, or a certificate file or proxy from
            an environment variable cannot be used.
    """

    def __init__(self, *, is_secure: bool, trust_env: bool = False, **given: Any) -> None:
        # A reused client may count the connection of a cancelled request as open for ever. When a service has hung for
        # a minute, the client may reach its limit of connections in this way, and then sends no more requests.
        self._verify = httpx.create_ssl_context(verify=is_secure, trust_env=trust_env)
        self._given = {"follow_redirects": False, "trust_env": trust_env, **given}
        # Make one client now, so that invalid arguments raise here; it opens no connection.
        self.client()

    def client(self) -> httpx.AsyncClient:
        """Return a client for one request; use it as a context manager, so that no connection stays open."""
        # The answer to a single request may set cookies too; they are not read.
        return httpx.AsyncClient(verify=self._verify, cookies=NoCookies(), **self._given)
