"""HTTP clients of the responder: one for each request, so that nothing of one is left for the next."""

from __future__ import annotations

from typing import Any

import httpx

from relab.incidents.cookies import NoCookies


class FreshClients:
    """Makes a client for each request; what is slow to make, the certificates, is made once.

    A client that is kept counts its connections, and a connection whose request is given up in the very moment in which it
    ends by itself is counted for ever. A service that hangs for a minute fills up that count by being asked in vain, and from
    then on nothing would be asked of it, however well it is.

    Args:
        is_secure: whether certificates are needed; to read them all takes long, and without TLS nobody asks for them.
        trust_env: whether proxies and certificates that the environment names are used.
        given: to each client, as httpx takes it.

    Raises:
        OSError, ValueError, httpx.InvalidURL, ImportError: by what the environment names nothing can be asked.
    """

    def __init__(self, *, is_secure: bool, trust_env: bool = False, **given: Any) -> None:
        self._verify = httpx.create_ssl_context(verify=is_secure, trust_env=trust_env)
        self._given = {"follow_redirects": False, "trust_env": trust_env, **given}
        # Made to see that it can be; it has connected to nobody.
        self.one()

    def one(self) -> httpx.AsyncClient:
        """Return a client for one request; as a context it leaves no connection open."""
        # Also answers of one request may set cookies, of a kind that nobody should read.
        return httpx.AsyncClient(verify=self._verify, cookies=NoCookies(), **self._given)
