"""What every context is built on: the settings, the clock, the database, the job queue and the progress log."""

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
    """What every context is built on. Nothing here is connected before its first use.

    Attributes:
        given_gateway: the gateway to use instead of the one that the settings describe; None: none was given.
    """

    settings: Settings
    clock: Clock
    database: Database
    job_backend: JobBackend
    queue: JobQueue
    signal: ProgressSignal
    progress: ProgressLog
    given_gateway: LlmGateway | None
