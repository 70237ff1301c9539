"""`lab worker`: run queued jobs until the worker is stopped."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from relab.cli.context import read_settings
from relab.core.errors import InvalidInputError

if TYPE_CHECKING:
    from relab.jobs.models import Lane


def worker(
    lanes: Annotated[
        str | None,
        typer.Option(
            help="Run only jobs of these lanes, separated by commas: interactive, background, long, training. Default: all.",
            metavar="LANES",
        ),
    ] = None,
    parent_pipe: Annotated[int | None, typer.Option(hidden=True, help="Stop when this pipe closes.")] = None,
) -> None:
    """Run queued jobs until the worker is stopped. The worker finishes the job that it is running, except a rollout.

    It restores the flags of a rollout, and another worker continues the rollout.

    Start any number of workers, on any machine that can connect to the database (and to Redis, with RQ). A worker
    starts no background or long job while an interactive job waits. A long job may take hours; start a second worker
    with --lanes interactive,background to run other jobs meanwhile.
    """
    import signal
    import threading

    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        # `nohup` starts a process that ignores SIGHUP, which is the end of its terminal.
        if number is not signal.SIGHUP or signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, lambda *_: stop.set())
    if parent_pipe is not None:
        # Ctrl-C reaches the whole process group, but only the parent stops its child.
        signal.signal(signal.SIGINT, signal.SIG_IGN)

    # The slow imports come after the signal handlers: a signal that arrives early must not be lost.
    from relab.bootstrap import build
    from relab.cli.processes import stop_with_parent
    from relab.core.logging import configure_logging, get_logger
    from relab.jobs.worker import UNAVAILABLE_PAUSE_S
    from relab.storage.errors import DatabaseUnavailableError

    served = _read_lanes(lanes)
    settings = read_settings()
    configure_logging(settings.log_level, json_lines=settings.app_env != "development")
    if parent_pipe is not None:
        stop_with_parent(parent_pipe, stop)
    log = get_logger("relab.worker")
    services = build(settings)
    try:
        while not stop.is_set():
            try:
                services.prepare()
            except DatabaseUnavailableError as error:
                # Wait while the database is unavailable, as a working worker does; a schema that does not fit ends the
                # command.
                log.warning("worker_waits_for_database", error=str(error))
                stop.wait(UNAVAILABLE_PAUSE_S)
            else:
                log.info("worker_started", queue=settings.job_backend, lanes=[*served])
                services.work_until(stop, served)
                break
    finally:
        services.close()


def _read_lanes(text: str | None) -> tuple[Lane, ...]:
    """Return the lanes (classes of urgency) that the option lists, most urgent first; without the option, all lanes.

    Raises:
        InvalidInputError: a name is not the name of a lane; the message names the option.
    """
    from relab.jobs.models import LANES

    if text is None:
        return LANES
    named = {name.strip() for name in text.split(",")}
    unknown = sorted(named - set(LANES))
    if unknown:
        raise InvalidInputError(f"--lanes: {unknown[0][:40]!r} is not a lane.", remedy=f"Write {', '.join(LANES)}.")
    return tuple(lane for lane in LANES if lane in named)
