"""Builds the back end of the job queue, and the signal that announces new progress events, from the settings."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final
from urllib.parse import urlsplit

from relab.core.errors import ConfigurationError
from relab.jobs.backend import BackendOptions, JobBackend
from relab.jobs.models import DEFAULT_TIME_LIMITS_S, Lane
from relab.jobs.opening import open_backend
from relab.progress.signal import PollingSignal, ProgressSignal, RedisSignal
from relab.settings import JobSettings, Settings

_REDIS_SCHEMES: Final = frozenset({"redis", "rediss", "unix"})
RQ_FUNCTION = "relab.bootstrap.run_queued_job"
"""The function that RQ calls with the id of a job. A worker on any machine where relab is installed can call it."""


def time_limits(jobs: JobSettings) -> Mapping[Lane, float]:
    """Return the time limits of jobs from the settings: `{lane: seconds}`; a lane is the urgency of a job."""
    long = dict.fromkeys((Lane.LONG, Lane.TRAINING), jobs.long_time_limit_s)
    return {**dict.fromkeys(DEFAULT_TIME_LIMITS_S, jobs.time_limit_s), **long}


def build_backend(settings: Settings) -> JobBackend:
    """Return the job back end that the settings name; it is not connected yet.

    Raises:
        ConfigurationError: no back end has this name, it needs a setting or an extra that is missing, or REDIS_URL is not
            valid.
    """
    options = BackendOptions(
        redis_url=_redis_url(settings),
        queue_name=settings.rq_queue_name,
        function_path=RQ_FUNCTION,
        poll_s=settings.jobs.poll_interval_s,
        time_limits=time_limits(settings.jobs),
    )
    return open_backend(settings.job_backend, options)


def build_signal(settings: Settings) -> ProgressSignal:
    """Return the signal by which readers of progress events learn of new events; it is not connected yet.

    With a Redis URL in the settings, Redis wakes the readers. Without one, the readers poll the database.

    Raises:
        ConfigurationError: REDIS_URL is not valid.
    """
    url = _redis_url(settings)
    return PollingSignal() if url is None else RedisSignal(url)


def _redis_url(settings: Settings) -> str | None:
    """Return the URL of Redis, or None if none is set.

    Raises:
        ConfigurationError: the URL is not valid. It may contain a password, so the message does not repeat it.
    """
    if settings.redis_url is None:
        return None
    url = settings.redis_url.get_secret_value()
    try:
        parts = urlsplit(url)
        # Reading the port raises ValueError if it is not a number.
        is_valid = parts.scheme in _REDIS_SCHEMES and (parts.port is None or parts.port > 0)
    except ValueError:
        is_valid = False
    if not is_valid:
        raise ConfigurationError(
            "REDIS_URL is not the URL of a Redis server.",
            remedy="Use redis://host:6379/0, rediss://host:6379/0 or unix:///path/to/socket.",
        ) from None
    return url
