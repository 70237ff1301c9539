"""Read the status of the components and the history of the settings from the supervisor."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any, Final

from relab.core.errors import RelabError

UNKNOWN: Final = "unknown"
_TIMEOUT_S: Final = 2.0


async def ask_supervisor(socket: Path | None, path: str) -> Any:
    """Return the supervisor's JSON answer to a GET request; the text `unknown` if the supervisor does not answer.

    Args:
        socket: the path of the supervisor's socket; None if the target runs without a supervisor.
        path: the path of the request.
    """
    # Diagnostics must answer even without the supervisor.
    if socket is None:
        return UNKNOWN
    try:
        return await asyncio.to_thread(_ask, socket, path)
    except RelabError:
        return UNKNOWN


def _ask(socket: Path, path: str) -> Any:
    # It takes a tenth of a second to load, so import it only on use.
    from relab.testbed.supervisor_client import SupervisorClient  # noqa: PLC0415

    with SupervisorClient(socket, within_s=_TIMEOUT_S) as client:
        return client.ask("GET", path)
