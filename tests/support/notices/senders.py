"""Senders of notices that run in a thread, as in `lab serve`."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from pydantic import SecretStr

from relab.bootstrap import build
from relab.core.clock import Clock
from relab.incidents.notices.channels.pagerduty import PagerDutyOptions
from relab.incidents.notices.channels.slack import SlackOptions
from relab.incidents.notices.service import NoticeService
from relab.incidents.notices.settings import DeliverySettings, NoticeOptions
from relab.settings import load_settings
from support.notices.receivers import LoopbackReceiver

QUICK = DeliverySettings(
    poll_interval_s=0.05,
    request_timeout_s=5.0,
    min_retry_pause_s=0.1,
    max_retry_pause_s=0.4,
    give_up_after_s=3_600.0,
    lease_s=1.0,
)
ROUTING_KEY = "R0UT1NGK3YR0UT1NGK3YR0UT1NGK3Y00"


def to_slack(receiver: LoopbackReceiver, delivery: DeliverySettings = QUICK) -> NoticeOptions:
    """Return settings with one receiver, configured as Slack."""
    return NoticeOptions((SlackOptions(SecretStr(receiver.url)),), delivery=delivery)


def to_both(slack: LoopbackReceiver, pagerduty: LoopbackReceiver) -> NoticeOptions:
    """Return settings with two receivers, one configured as Slack and one as PagerDuty."""
    options = to_slack(slack)
    other = PagerDutyOptions(SecretStr(ROUTING_KEY), pagerduty.url, page_on="opened")
    return replace(options, channels=(*options.channels, other))


@contextmanager
def sending(url: str, home: Path, settings: NoticeOptions, clock: Clock | None = None) -> Iterator[NoticeService]:
    """Send notices about the incidents of a database while the block runs, as each of several processes does."""
    services = build(load_settings(home, database_url=url), clock=clock)
    service = NoticeService(services.database, services.clock, services.incidents, settings)
    loop, stop, started = asyncio.new_event_loop(), asyncio.Event(), threading.Event()

    async def run() -> None:
        async with service.sending():
            started.set()
            await stop.wait()

    thread = threading.Thread(target=lambda: loop.run_until_complete(run()))
    thread.start()
    try:
        assert started.wait(30)
        yield service
    finally:
        loop.call_soon_threadsafe(stop.set)
        thread.join()
        loop.close()
        services.close()
