"""The job queue: its broker, and the function that RQ calls."""

from __future__ import annotations

from relab.core.errors import ConfigurationError
from relab.jobs.queue import Announcer, PollingAnnouncer
from relab.jobs.rq import RqAnnouncer
from relab.progress.signal import PollingSignal, ProgressSignal, RedisSignal
from relab.settings import Settings

RQ_FUNCTION = "relab.bootstrap.run_queued_job"
"""The function that RQ calls with the id of a job. A worker on any machine where relab is installed can call it."""


def open_broker(settings: Settings) -> tuple[Announcer, ProgressSignal]:
    """Return what wakes workers, and what wakes the followers of progress; nothing is connected yet.

    Raises:
        ConfigurationError: the queue needs Redis, and no address is set.
    """
    if settings.job_mode == "embedded":
        signal = RedisSignal(settings.redis_url.get_secret_value()) if settings.redis_url else PollingSignal()
        return PollingAnnouncer(), signal
    if settings.redis_url is None:
        raise ConfigurationError(
            "RELAB_JOBS__MODE is rq, but REDIS_URL is not set.",
            remedy="Set REDIS_URL, or use the mode embedded.",
        )
    url = settings.redis_url.get_secret_value()
    return RqAnnouncer(url, settings.rq_queue_name, RQ_FUNCTION), RedisSignal(url)
