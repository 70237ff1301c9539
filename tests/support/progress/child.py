"""A process that publishes progress: `python -m support.progress.child DATABASE_URL REDIS_URL TOPIC TIMES NAME`."""

from __future__ import annotations

import sys

from relab.core.clock import SystemClock
from relab.progress.service import ProgressLog
from relab.progress.signal import PollingSignal, RedisSignal
from relab.storage import Database


def main(database_url: str, redis_url: str, topic: str, times: str, name: str) -> None:
    """Publish on request."""
    database = Database.open(database_url)
    signal = RedisSignal(redis_url) if redis_url else PollingSignal()
    log = ProgressLog(database, SystemClock(), signal)
    database.ping()
    print("ready", flush=True)
    sys.stdin.readline()
    for number in range(int(times)):
        log.publish(topic, status="running", step=name, pct=50, message=str(number))
    signal.close()
    database.close()
    print("done", flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
