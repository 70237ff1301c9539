"""All services of a relab process, built from the settings.

Every process (API, worker, CLI command) calls `build`. `build` opens no connection to the database; the first
transaction does. `prepare` makes the database usable and rejects a database whose schema does not fit this version. A
context (a part of relab, such as builds) is imported and built at its first use, so a process that does not use it
starts faster.
"""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING

from relab.bootstrap.foundation import Foundation
from relab.bootstrap.jobs import build_backend, build_signal, time_limits
from relab.core.clock import Clock, SystemClock
from relab.core.composed import composed
from relab.core.home import signing_key_path
from relab.jobs.models import LANES, JobStatus, Lane, Subscription
from relab.settings import Settings, load_settings
from relab.storage import Database
from relab.storage.preparing import prepare

if TYPE_CHECKING:
    from relab.access.service import AccessService
    from relab.builds.promotion.service import PromotionService
    from relab.builds.service import BuildService
    from relab.builds.training.service import TrainingService
    from relab.experiments.service import ExperimentService
    from relab.flags.service import FlagService
    from relab.incidents.notices.service import NoticeService
    from relab.incidents.service import IncidentService, TimelineEvent
    from relab.jobs.runner import JobRunner
    from relab.knowledge.service import KnowledgeService
    from relab.llm.gateway import LlmGateway
    from relab.progress.models import ProgressEvent
    from relab.progress.tailer import Event, EventLog, ProgressTailer
    from relab.rca.service import RcaService
    from relab.rollouts.service import RolloutService
    from relab.telemetry.service import TelemetryService

PROJECTOR_LEASE = "telemetry-projector"
"""The name of the lease of the worker that projects runs."""
PROJECT_EVERY_S = 0.1
"""How often a worker without work looks for runs that are due, in seconds; it only reads."""
_DAY_S = 86_400.0


class Services(Foundation):
    """All services of a relab process. Each is built at its first use."""

    @composed
    def gateway(self) -> LlmGateway:
        """The gateway to the language model; without a configured model, a `NullGateway`."""
        from relab.bootstrap.llm import build_gateway

        return self.given_gateway or build_gateway(self.settings)

    @composed
    def access(self) -> AccessService:
        """The service that manages tokens and authorizes requests."""
        from relab.bootstrap.access import build_access

        return build_access(self)

    @composed
    def telemetry(self) -> TelemetryService:
        """The service that stores and searches agent runs and their spans."""
        from relab.bootstrap.telemetry import build_telemetry

        return build_telemetry(self)

    @composed
    def rca(self) -> RcaService:
        """The service that analyses why agent runs failed (root cause analysis)."""
        from relab.bootstrap.rca import build_rca

        return build_rca(self, self.telemetry, self.gateway)

    @composed
    def flags(self) -> FlagService:
        """The service that stores and evaluates feature flags; each change of a flag is a new version."""
        from relab.flags.service import FlagService

        return FlagService(self.database, self.clock)

    @composed
    def knowledge(self) -> KnowledgeService:
        """The service that stores and searches runbooks and past incidents."""
        from relab.bootstrap.knowledge import build_knowledge

        return build_knowledge(self)

    @composed
    def incidents(self) -> IncidentService:
        """The service that detects, diagnoses and repairs incidents of the watched target."""
        from relab.bootstrap.incidents import build_incidents

        return build_incidents(self, lambda: self.knowledge, self.telemetry, lambda: self.gateway)

    @composed
    def rollouts(self) -> RolloutService:
        """The service of rollouts: it measures changes of feature flags, and applies a change that passes."""
        from relab.bootstrap.rollouts import build_rollouts

        return build_rollouts(self, self.flags, self.telemetry, self.experiments, lambda: self.gateway)

    @composed
    def builds(self) -> BuildService:
        """The service that runs, records and explains builds."""
        from relab.bootstrap.builds import build_builds

        return build_builds(self, self.telemetry)

    @composed
    def build_promotion(self) -> PromotionService:
        """The service that decides which build policy a project uses; only a better policy replaces the current one."""
        from relab.bootstrap.builds import build_promotion

        return build_promotion(self, self.flags)

    @composed
    def build_training(self) -> TrainingService:
        """The service that trains the policy `dqn` (a neural network that chooses actions) on simulated builds."""
        from relab.bootstrap.builds import build_training

        return build_training(self)

    @composed
    def notices(self) -> NoticeService:
        """The service that notifies people of incidents, and of behaviours that runs show."""
        from relab.bootstrap.incidents import build_notices

        return build_notices(self, self.incidents)

    def experiments(self) -> ExperimentService:
        """Return the service that runs experiments; it stores each trial as an agent run."""
        from relab.experiments.service import ExperimentService

        return ExperimentService(self.clock, self.telemetry, signing_key=signing_key_path(self.settings.home))

    def prepare(self) -> None:
        """Make the database usable: migrate SQLite, or check the schema of PostgreSQL.

        Raises:
            SchemaError: the schema of the database does not fit this version.
            DatabaseUnavailableError: the database cannot be reached.
        """
        prepare(self.database)

    def subscriptions(self, worker_stop: Callable[[], threading.Event] = threading.Event) -> Sequence[Subscription]:
        """Return the job handlers of telemetry, root cause analysis, rollouts and builds; workers call them.

        `worker_stop` returns the event that is set when the worker stops. By default, the worker finishes its job.
        """
        from relab.bootstrap import builds, rca, rollouts, telemetry

        return [
            *telemetry.subscriptions(self.telemetry),
            *rca.subscriptions(self.rca, lambda: self.notices),
            *rollouts.subscriptions(lambda: self.rollouts, worker_stop),
            *builds.subscriptions(lambda: self.build_training),
        ]

    def runner(
        self, lanes: Sequence[Lane] = LANES, worker_stop: Callable[[], threading.Event] = threading.Event
    ) -> JobRunner:
        """Return a job runner for one worker; it runs only jobs in these lanes (classes of urgency).

        `worker_stop` is the argument of `subscriptions`.
        """
        from relab.jobs.runner import JobRunner

        jobs = self.settings.jobs
        return JobRunner(
            self.database,
            self.clock,
            self.subscriptions(worker_stop),
            lease_s=jobs.lease_s,
            lanes=lanes,
            time_limits=time_limits(jobs),
        )

    def drop_job(self, job_id: str) -> None:
        """Delete a job that is not running; if it was pending, notify the services that wait for its result.

        Raises:
            JobNotFoundError: there is no job with this id.
            JobStateError: the job is running.
            JobListenerError: the job was deleted, but a service that waits for it could not be notified.
        """
        job = self.queue.get(job_id)
        self.queue.drop(job_id)
        if job.status is JobStatus.PENDING:
            failures = self.runner().notify_parked(job, "The job was dropped before it was done.")
            if failures:
                from relab.jobs.errors import JobListenerError

                raise JobListenerError(
                    f"The job {job_id} ({job.name}) was dropped, but what waits for it could not be informed: {failures}.",
                    remedy="Check the object that the job was for; repeat its request if it is still queued.",
                )

    def tailer(self) -> ProgressTailer[ProgressEvent]:
        """Return a new tailer, which sends new progress events to subscribers that run in the same event loop."""
        return self._tailer(self.progress)

    def incident_tailer(self) -> ProgressTailer[TimelineEvent]:
        """Return a new tailer, which sends new incident events to subscribers that run in the same event loop."""
        return self._tailer(self.incidents.log)

    def _tailer(self, log: EventLog[Event]) -> ProgressTailer[Event]:
        from relab.progress.tailer import ProgressTailer

        settings = self.settings.progress
        return ProgressTailer(
            log, self.signal, poll_s=settings.poll_interval_s, heartbeat_s=settings.heartbeat_interval_s
        )

    def work_until(self, stop: threading.Event, lanes: Sequence[Lane] = LANES) -> None:
        """Work as a worker until `stop` is set: run jobs in these lanes (classes of urgency), and housekeep regularly.

        If `lanes` contains `background`, a thread also computes agent runs from received spans.
        """
        from relab.jobs.worker import Sweeper, work_until

        jobs = self.settings.jobs
        runner = self.runner(lanes, lambda: stop)
        # RQ calls `run_queued_job` in this process, which has a runner of its own.
        _rq_worker.stop = stop

        def work() -> None:
            self.housekeep(runner)

        sweeper = Sweeper(self.database, self.clock, runner.owner, work, every_s=jobs.sweep_interval_s)
        with self._projecting(runner.owner, stop) if Lane.BACKGROUND in lanes else nullcontext():
            work_until(stop, self.job_backend, runner, sweeper, sweep_s=jobs.sweep_interval_s)

    def _projecting(self, owner: str, stop: threading.Event) -> AbstractContextManager[None]:
        """Return a context manager: while its block runs, a thread computes agent runs from stored spans.

        A lease ensures that only one process at a time computes them.

        Args:
            owner: the name of this worker, which holds the lease.
            stop: ends the thread when set.
        """
        from relab.jobs.worker import LeasedLoop, sweeping

        projector = self.telemetry.projector
        loop = LeasedLoop(
            self.database,
            self.clock,
            PROJECTOR_LEASE,
            owner,
            has_work=projector.has_due,
            work=projector.project_due,
            stop=stop,
        )
        # A thread beside the jobs, because a long job must not delay what every list needs.
        return sweeping(loop, stop, every_s=PROJECT_EVERY_S)

    def housekeep(self, runner: JobRunner) -> None:
        """Do the regular work of a worker once: clean up the job queue, end incomplete runs, queue analyses.

        A run is incomplete if its end was not reported and its trace has received no spans for some time. If the
        settings say so, root cause analyses of new failed runs are queued. If the settings say so, a search for
        behaviours (patterns that rules describe) in new runs is queued too.

        Args:
            runner: the job runner of this worker.

        Raises:
            DatabaseUnavailableError: the database is unavailable; the next call does the work.
        """
        jobs, rca = self.settings.jobs, self.settings.rca
        runner.sweep(keep_done_s=jobs.done_retention_days * _DAY_S)
        self.job_backend.reannounce(self.database, self.clock, older_than_s=jobs.sweep_interval_s)
        self.telemetry.end_incomplete(self.settings.telemetry.incomplete_after_s)
        if rca.on_arrival:
            self.rca.analyze_arrivals(quiet_s=rca.on_arrival_after_s, max_waiting=rca.on_arrival_max_waiting)
        self.rca.arrivals.queue_search(quiet_s=rca.on_arrival_after_s, is_on=rca.behaviours_on_arrival)

    def close(self) -> None:
        """Close all connections: to the job back end, the progress signal and the database."""
        self.job_backend.close()
        self.signal.close()
        self.database.close()


def build(settings: Settings, *, clock: Clock | None = None, llm: LlmGateway | None = None) -> Services:
    """Build the services that `settings` describe.

    Args:
        settings: the settings of the process.
        clock: the source of the current time; None: the clock of the machine.
        llm: the gateway to a language model; None: the gateway that the settings describe.

    Raises:
        ConfigurationError: the settings of the database or of the job back end are invalid, or need an extra that is
            not installed. Other invalid settings are reported when a service first uses them.
    """
    clock = clock or SystemClock()
    database = Database.open(
        settings.database_url.get_secret_value(), min_free_bytes=int(settings.storage.min_free_disk_mb * 1_048_576)
    )
    backend, signal = build_backend(settings), build_signal(settings)
    return Services(
        settings=settings,
        clock=clock,
        database=database,
        job_backend=backend,
        signal=signal,
        given_gateway=llm,
    )


def run_queued_job(job_id: str) -> None:
    """Run the job with this id; the library RQ calls this function in its worker process.

    Nothing is done if the job is done or deleted, or if another worker holds its lease.
    """
    _process_runner().run_next(job_id)


class _RqWorker:
    """The RQ worker of this process; `stop` is set when it stops."""

    stop = threading.Event()


_rq_worker = _RqWorker()


@functools.cache
def _process_runner() -> JobRunner:
    services = build(load_settings())
    services.prepare()
    return services.runner(worker_stop=lambda: _rq_worker.stop)
