"""A worker process: `python -m support.jobs.child DATABASE_URL REDIS_URL QUEUE JOURNAL`; no Redis means embedded."""

from __future__ import annotations

import signal
import sys
import threading
from pathlib import Path

from relab.core.clock import SystemClock
from relab.core.logging import configure_logging
from relab.jobs.rq import RqAnnouncer
from relab.jobs.runner import JobRunner
from relab.jobs.worker import Sweeper, work_until
from relab.storage import Database
from support.jobs import handlers as job_handlers
from support.jobs.handlers import RUN_JOB, Handlers, Journal

LEASE_S = 1.0
SWEEP_S = 0.2


def main(database_url: str, redis_url: str, queue_name: str, journal: str) -> None:
    """Work until a signal comes."""
    # Nothing but "ready" goes to standard output, which nobody reads later.
    configure_logging("CRITICAL", json_lines=True)
    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    database, clock = Database.open(database_url), SystemClock()
    handlers = Handlers(Journal(Path(journal)))
    by_name = handlers.by_name()
    runner = JobRunner(database, clock, by_name, lease_s=LEASE_S, on_parked=dict.fromkeys(by_name, handlers.on_parked))
    job_handlers.runner = runner
    announcer = RqAnnouncer(redis_url, queue_name, RUN_JOB) if redis_url else None

    def housekeeping() -> None:
        runner.sweep(keep_done_s=3_600)
        if announcer is not None:
            announcer.reannounce(database, clock, older_than_s=SWEEP_S)

    sweeper = Sweeper(database, clock, runner.owner, housekeeping, every_s=SWEEP_S)
    print("ready", flush=True)
    if announcer is None:
        work_until(stop, runner, sweeper, poll_s=0.02)
    else:
        announcer.work_until(stop, sweeper, sweep_every_s=SWEEP_S)
        announcer.close()
    database.close()


if __name__ == "__main__":
    main(*sys.argv[1:])
