"""The objects that all services need: the settings, the clock, the database, the job queue and the progress log."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from relab.core.clock import Clock
from relab.jobs.backend import JobBackend
from relab.jobs.queue import JobQueue
from relab.progress.service import ProgressLog
from relab.progress.signal import ProgressSignal
from relab.settings import Settings
from relab.storage import Database

if TYPE_CHECKING:
    from relab.llm.gateway import LlmGateway


@dataclass(frozen=True)
class Foundation:
    """The objects that all services need. None of them connects to a server before its first use.

    Attributes:
        settings: the settings of this process.
        clock: the source of the current time.
        database: the database of this installation.
        job_backend: wakes workers when jobs are enqueued.
        queue: the job queue in the database.
        signal: wakes the processes that follow progress when there is a new event.
        progress: stores and reads progress events.
        given_gateway: the model gateway to use instead of the one that the settings describe; None: no gateway was
            given.
    """

    settings: Settings
    clock: Clock
    database: Database
    job_backend: JobBackend
    queue: JobQueue
    signal: ProgressSignal
    progress: ProgressLog
    given_gateway: LlmGateway | None
