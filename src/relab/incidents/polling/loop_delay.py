"""Measure the delay of this process's event loop.

A process with a delayed event loop measures response times of a target that are too long.
"""

from __future__ import annotations

import asyncio
import time
from types import TracebackType
from typing import Final, Self

_STEP_S: Final = 0.01


class LoopDelay:
    """Measures the delay of the event loop while its `async with` block runs.

    Attributes:
        worst_s: the longest delay of a timer since the start of the block, in seconds.
    """

    def __init__(self) -> None:
        self.worst_s = 0.0
        self._task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        """Start to measure the delay of the event loop."""
        self._task = asyncio.create_task(self._watch(), name="lateness")
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop measuring the delay of the event loop."""
        assert self._task is not None
        self._task.cancel()
        await asyncio.wait([self._task])

    async def _watch(self) -> None:
        while True:
            due_s = time.monotonic() + _STEP_S
            await asyncio.sleep(_STEP_S)
            self.worst_s = max(self.worst_s, time.monotonic() - due_s)
