"""`lab worker`: runs queued jobs until it is stopped."""

from __future__ import annotations

from typing import Annotated

import typer


def worker(
    parent_pipe: Annotated[int | None, typer.Option(hidden=True, help="Stop when this pipe closes.")] = None,
) -> None:
    """Run queued jobs until stopped; the job in hand is finished first.

    Start as many as you like, on any machine that reaches the database (and Redis, with RQ).
    """
    import signal
    import threading

    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    if parent_pipe is not None:
        # Ctrl-C reaches the whole process group; a child is stopped by its parent alone.
        signal.signal(signal.SIGINT, signal.SIG_IGN)

    # What takes long to import comes after the signals: one that comes early must not be lost.
    import structlog

    from relab.bootstrap import build
    from relab.cli.context import read_settings
    from relab.cli.processes import stop_with_parent
    from relab.core.logging import configure_logging
    from relab.jobs.worker import UNAVAILABLE_PAUSE_S
    from relab.storage.errors import DatabaseUnavailableError

    settings = read_settings()
    configure_logging(settings.log_level, json_lines=settings.app_env != "development")
    if parent_pipe is not None:
        stop_with_parent(parent_pipe, stop)
    log = structlog.get_logger("relab.worker")
    services = build(settings)
    try:
        while not stop.is_set():
            try:
                services.prepare()
            except DatabaseUnavailableError as error:
                # As while at work: a database that is away is waited for, one that does not fit is refused.
                log.warning("worker_waits_for_database", error=str(error))
                stop.wait(UNAVAILABLE_PAUSE_S)
            else:
                log.info("worker_started", queue=settings.job_mode)
                services.work_until(stop)
                break
    finally:
        services.close()
