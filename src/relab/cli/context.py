"""Read the settings of a command, and build the services that it uses (for the configured database)."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from relab.bootstrap import Services
    from relab.settings import Settings


def use_home(home: Path | None) -> None:
    """Use the folder `home` as relab's home, in this process and in the processes that it starts.

    If `home` is None, nothing changes.
    """
    if home is not None:
        os.environ["RELAB_HOME"] = str(home.expanduser().absolute())


def read_settings() -> Settings:
    """Return the settings of this command, from the environment variables and the files in relab's home folder.

    Raises:
        ConfigurationError: a setting is wrong.
    """
    from relab.settings import load_settings

    return load_settings()


def operator() -> str:
    """Return the person who runs this command, for audit logs: `user@host`. The user's id replaces a missing name."""
    import getpass
    import socket

    try:
        user = getpass.getuser()
    except (KeyError, OSError):
        user = str(os.getuid())
    return f"{user}@{socket.gethostname()}"


def run_follow_ups(services: Services, *, at_most: int = 10) -> None:
    """Run the small jobs that an analysis or a deletion of runs has queued, if no worker is alive.

    A small job stores the failure category or the behaviours (patterns) that an analysis found in a run, or deletes
    the analyses of a deleted run. The function reads only the newest `at_most` pending jobs, of all kinds, and runs
    the small ones among them.
    """
    from relab.jobs.models import JobStatus
    from relab.telemetry.service import BEHAVIOURS_JOB, DELETED_JOB, LABEL_JOB

    if services.queue.worker_lives():
        return
    runner = services.runner()
    for job in services.queue.list(status=JobStatus.PENDING, limit=at_most):
        if job.name in {BEHAVIOURS_JOB, LABEL_JOB, DELETED_JOB}:
            runner.run_next(job.job_id)


@contextmanager
def open_services(*, prepare: bool = True) -> Iterator[Services]:
    """Yield the services of this command, and close them afterwards.

    Args:
        prepare: whether to check the schema of the database first. An older schema of an SQLite database is migrated;
            any other schema that does not fit is an error.

    Raises:
        ConfigurationError, DatabaseUnavailableError, SchemaError: the settings or the database cannot be used.
    """
    from relab.bootstrap import build
    from relab.core.logging import configure_logging

    settings = read_settings()
    configure_logging("WARNING" if settings.log_level in {"INFO", "DEBUG"} else settings.log_level, json_lines=False)
    services = build(settings)
    try:
        if prepare:
            services.prepare()
        yield services
    finally:
        services.close()
