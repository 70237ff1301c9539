"""The followers of a progress tailer, counted from another thread."""

from __future__ import annotations

import asyncio
import sys
import threading
from collections.abc import Collection, Mapping, Sequence

from relab.progress.models import ProgressEvent
from relab.progress.signal import PollingSignal
from relab.progress.tailer import ProgressTailer


class EmptyLog:
    """A log without events."""

    def read_after(self, _topic_id: str, _seq: int = 0, /) -> Sequence[ProgressEvent]:
        """Return no events."""
        return []

    def latest_seqs(self, _topic_ids: Collection[str], /) -> Mapping[str, int]:
        """Return no sequence numbers."""
        return {}


def test_followers_are_counted_from_other_threads_while_they_come_and_go() -> None:
    # `GET /metrics` counts followers in a thread; a minimal switch interval makes races likely.
    interval = sys.getswitchinterval()
    tailer = ProgressTailer[ProgressEvent](EmptyLog(), PollingSignal(), poll_s=60, heartbeat_s=60)
    over = threading.Event()
    failures: list[Exception] = []

    def scrape() -> None:
        while not over.is_set():
            try:
                assert tailer.follower_count >= 0
            except RuntimeError as error:
                failures.append(error)
                return

    async def churn() -> None:
        async def follow(number: int) -> None:
            events = tailer.follow(f"topic-{number}")
            waiting = asyncio.ensure_future(anext(events))
            await asyncio.sleep(0)
            waiting.cancel()
            await asyncio.gather(waiting, return_exceptions=True)
            await events.aclose()

        for start in range(0, 1_000, 200):
            await asyncio.gather(*(follow(start + number) for number in range(200)))

    thread = threading.Thread(target=scrape)
    sys.setswitchinterval(1e-6)
    try:
        thread.start()
        asyncio.run(churn())
    finally:
        over.set()
        thread.join()
        sys.setswitchinterval(interval)
    assert failures == []
    assert tailer.follower_count == 0
