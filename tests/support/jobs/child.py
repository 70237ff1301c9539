"""A worker process: `python -m support.jobs.child DATABASE_URL REDIS_URL QUEUE JOURNAL LANES LEASE_S`; no Redis: embedded."""

from __future__ import annotations

import signal
import sys
import threading
from pathlib import Path

from relab.core.clock import SystemClock
from relab.core.logging import configure_logging
from relab.jobs.models import DEFAULT_TIME_LIMITS_S, Lane
from relab.jobs.runner import JobRunner
from relab.jobs.worker import Sweeper, work_until
from relab.storage import Database
from support.jobs import handlers as job_handlers
from support.jobs.handlers import Handlers, Journal
from support.jobs.installation import make_backend

SWEEP_S = 0.2
LONG_LIMIT_S = 1.0
"""The time limit of the lane `long`, short enough for a test to reach it."""


def main(database_url: str, redis_url: str, queue_name: str, journal: str, lanes: str, lease_s: str) -> None:
    """Run jobs until a signal."""
    # Only "ready" goes to standard output, because the test does not read it later.
    configure_logging("CRITICAL", json_lines=True)
    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    database, clock = Database.open(database_url), SystemClock()
    handlers = Handlers(Journal(Path(journal)))
    limits = {**DEFAULT_TIME_LIMITS_S, Lane.LONG: LONG_LIMIT_S}
    served = [Lane(lane) for lane in lanes.split(",")]
    runner = JobRunner(
        database, clock, handlers.subscriptions(), lease_s=float(lease_s), lanes=served, time_limits=limits
    )
    job_handlers.runner = runner
    backend = make_backend(redis_url, queue_name, limits)

    def housekeeping() -> None:
        runner.sweep(keep_done_s=3_600)
        backend.reannounce(database, clock, older_than_s=SWEEP_S)

    sweeper = Sweeper(database, clock, runner.owner, housekeeping, every_s=SWEEP_S)
    print("ready", flush=True)
    work_until(stop, backend, runner, sweeper, sweep_s=SWEEP_S)
    backend.close()
    database.close()


if __name__ == "__main__":
    main(*sys.argv[1:])
