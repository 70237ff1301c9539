"""The objects that all services need: the settings, the clock, the database, the job queue and the progress log."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from relab.core.clock import Clock
from relab.core.composed import composed
from relab.jobs.backend import JobBackend
from relab.progress.signal import ProgressSignal
from relab.settings import Settings
from relab.storage import Database

if TYPE_CHECKING:
    from relab.jobs.queue import JobQueue
    from relab.llm.gateway import LlmGateway
    from relab.progress.service import ProgressLog


@dataclass(frozen=True)
class Foundation:
    """The objects that all services need. None of them connects to a server before its first use.

    Attributes:
        settings: the settings of this process.
        clock: the source of the current time.
        database: the database of this installation.
        job_backend: announces new jobs to workers.
        signal: wakes the processes that wait for new progress events.
        given_gateway: the gateway to the language model; None: services use the gateway that the settings describe.
    """

    settings: Settings
    clock: Clock
    database: Database
    job_backend: JobBackend
    signal: ProgressSignal
    given_gateway: LlmGateway | None

    @composed
    def queue(self) -> JobQueue:
        """The job queue in the database."""
        from relab.jobs.queue import JobQueue

        return JobQueue(self.database, self.clock, self.job_backend)

    @composed
    def progress(self) -> ProgressLog:
        """The log of progress events in the database."""
        from relab.progress.service import ProgressLog

        return ProgressLog(self.database, self.clock, self.signal)
