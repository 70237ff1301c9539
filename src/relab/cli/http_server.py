"""The HTTP server of `lab serve`: uvicorn, which tells the app that it stops."""

from __future__ import annotations

import socket

import uvicorn


class HttpServer(uvicorn.Server):
    """Ends the app's event streams before it waits for open requests.

    An idle stream would otherwise hold the stop up for the whole grace period, and then be
    cancelled with a traceback each.
    """

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Stop in order."""
        self.lifespan.state["end_streams"]()
        await super().shutdown(sockets)
