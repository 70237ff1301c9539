"""The supervisor's information: the components, and the history of the settings."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

UNKNOWN: Final = "unknown"
_TIMEOUT_S: Final = 2.0


async def ask_supervisor(socket: Path | None, path: str) -> Any:
    """Return the supervisor's JSON answer, or `unknown` if there is no supervisor or it does not answer."""
    if socket is None:
        return UNKNOWN
    # It takes a tenth of a second to load, so import it only on use.
    import httpx  # noqa: PLC0415

    try:
        transport = httpx.AsyncHTTPTransport(uds=str(socket))
        async with httpx.AsyncClient(transport=transport, base_url="http://unix", timeout=_TIMEOUT_S) as client:
            answer = await client.get(path)
            answer.raise_for_status()
            return answer.json()
    except (httpx.HTTPError, ValueError, OSError):
        return UNKNOWN
