"""The composition root of relab: it builds all services from the settings.

Every process (API, worker, CLI command) calls `build`. `build` opens no connection to the
database; the first transaction does. `prepare` makes the database usable and rejects a database
whose schema does not fit this version.
"""

from __future__ import annotations

import functools
import threading
from collections.abc import Mapping
from dataclasses import dataclass

import structlog

from relab.access.service import AccessService
from relab.core.clock import Clock, SystemClock
from relab.core.errors import ConfigurationError
from relab.experiments.service import ExperimentService
from relab.flags.service import FlagService
from relab.incidents.notices.service import DeliverySettings, NoticeService, NoticeSettings, PageTrigger
from relab.incidents.service import (
    AskWhen,
    Autonomy,
    IncidentService,
    ModelSettings,
    Policy,
    TimelineEvent,
    WatchedTarget,
    settings_for,
    target_name,
)
from relab.jobs.models import JobHandler, JobStatus
from relab.jobs.queue import Announcer, JobQueue, PollingAnnouncer
from relab.jobs.rq import RqAnnouncer
from relab.jobs.runner import JobRunner, ParkListener
from relab.jobs.worker import Sweeper, work_until
from relab.knowledge.service import KnowledgeService, packaged_meaning
from relab.llm import (
    Budget,
    BudgetLimits,
    LangChainGateway,
    LlmConfig,
    LlmGateway,
    LlmNotConfiguredError,
    MeteredGateway,
    NullGateway,
    OutputMethod,
    Provider,
)
from relab.progress.models import ProgressEvent
from relab.progress.service import ProgressLog
from relab.progress.signal import PollingSignal, ProgressSignal, RedisSignal
from relab.progress.tailer import ProgressTailer
from relab.rca.handlers import RcaHandlers
from relab.rca.service import ANALYZE_JOB, LABEL_JOB, RcaService
from relab.settings import Settings, load_settings
from relab.stats.two_sample import preload
from relab.storage import Database
from relab.storage.migrate import prepare
from relab.telemetry.handlers import TelemetryHandlers
from relab.telemetry.service import DELETED_JOB, TelemetryService

RQ_FUNCTION = "relab.bootstrap.run_queued_job"
"""The function that RQ calls with the id of a job. A worker on any machine where relab is installed can call it."""

DEFAULT_MODELS = {Provider.OPENAI: "gpt-4o-mini", Provider.ANTHROPIC: "claude-3-5-haiku-latest"}

_log = structlog.get_logger(__name__)
_HOUR_S = 3_600.0
_DAY_S = 86_400.0


@dataclass(frozen=True)
class Services:
    """All services that a relab process uses."""

    settings: Settings
    clock: Clock
    database: Database
    announcer: Announcer
    queue: JobQueue
    progress: ProgressLog
    signal: ProgressSignal
    access: AccessService
    telemetry: TelemetryService
    rca: RcaService
    flags: FlagService
    knowledge: KnowledgeService
    incidents: IncidentService
    notices: NoticeService

    def prepare(self) -> None:
        """Make the database usable.

        Raises:
            SchemaError: the schema of the database does not fit this version.
            DatabaseUnavailableError: the database cannot be reached.
        """
        prepare(self.database)

    def experiments(self) -> ExperimentService:
        """Return the service that runs experiments; it stores each trial as an agent run in this database."""
        return ExperimentService(self.clock, self.telemetry)

    def handlers(self) -> Mapping[str, JobHandler]:
        """Return the job handlers by job name."""
        rca, telemetry = RcaHandlers(self.rca), TelemetryHandlers(self.telemetry)
        return {ANALYZE_JOB: rca.analyze, LABEL_JOB: telemetry.label, DELETED_JOB: rca.delete_for_runs}

    def drop_job(self, job_id: str) -> None:
        """Delete a job that is not running; if it was pending, notify its park listener.

        Raises:
            JobNotFoundError: there is no job with this id.
            JobStateError: the job is running.
        """
        job = self.queue.get(job_id)
        self.queue.drop(job_id)
        listener = self.park_listeners().get(job.name)
        if listener is not None and job.status is JobStatus.PENDING:
            listener(job, "The job was dropped before it was done.")

    def park_listeners(self) -> Mapping[str, ParkListener]:
        """Return, by job name, the callback that is called when a job will never be done."""
        return {ANALYZE_JOB: RcaHandlers(self.rca).analysis_parked}

    def runner(self) -> JobRunner:
        """Return a job runner for one worker."""
        return JobRunner(
            self.database,
            self.clock,
            self.handlers(),
            lease_s=self.settings.jobs.lease_s,
            on_parked=self.park_listeners(),
        )

    def worker_lives(self) -> bool:
        """Return whether at least one worker of the queue is alive."""
        return self.queue.worker_lives()

    def tailer(self) -> ProgressTailer[ProgressEvent]:
        """Return a tailer that sends new progress events to the subscribers of one event loop."""
        settings = self.settings.progress
        return ProgressTailer(self.progress, self.signal, poll_s=settings.poll_s, heartbeat_s=settings.heartbeat_s)

    def incident_tailer(self) -> ProgressTailer[TimelineEvent]:
        """Return a tailer that sends new events of incident timelines to the subscribers of one event loop."""
        settings = self.settings.progress
        return ProgressTailer(self.incidents.log, self.signal, poll_s=settings.poll_s, heartbeat_s=settings.heartbeat_s)

    def work_until(self, stop: threading.Event) -> None:
        """Run jobs of the configured queue until `stop` is set."""
        # Without the preload, the first comparison of versions would wait a second for the import.
        threading.Thread(target=preload, name="preload-stats", daemon=True).start()
        jobs = self.settings.jobs
        runner = self.runner()
        announcer = self.announcer

        def housekeeping() -> None:
            runner.sweep(keep_done_s=jobs.keep_done_days * _DAY_S)
            if isinstance(announcer, RqAnnouncer):
                announcer.reannounce(self.database, self.clock, older_than_s=jobs.sweep_s)

        sweeper = Sweeper(self.database, self.clock, runner.owner, housekeeping, every_s=jobs.sweep_s)
        if isinstance(announcer, RqAnnouncer):
            announcer.work_until(stop, sweeper, sweep_every_s=jobs.sweep_s)
        else:
            work_until(stop, runner, sweeper, poll_s=jobs.poll_s)

    def close(self) -> None:
        """Close all connections."""
        self.announcer.close()
        self.signal.close()
        self.database.close()


def build(settings: Settings, *, clock: Clock | None = None, llm: LlmGateway | None = None) -> Services:
    """Build the services that `settings` describe.

    Raises:
        ConfigurationError: the settings contradict each other or need an extra that is not installed.
    """
    clock = clock or SystemClock()
    database = Database.open(
        settings.database_url.get_secret_value(), min_free_bytes=int(settings.storage.min_free_mb * 1_048_576)
    )
    announcer, signal = _broker(settings)
    queue = JobQueue(database, clock, announcer)
    progress = ProgressLog(database, clock, signal)
    telemetry = TelemetryService(database, clock, queue)
    access = AccessService(
        database,
        clock,
        ingest_secret=settings.app_ingest_secret,
        allowed_hosts=settings.http.allowed_hosts,
        trust_loopback_publish=settings.trust_loopback_publish,
        trusted_proxies=settings.http.trusted_proxies,
    )
    gateway = llm or _gateway(settings, clock)
    word = None
    if not isinstance(gateway, NullGateway):
        from relab.rca.wording import word_summary

        word = functools.partial(word_summary, gateway=gateway)
    rca = RcaService(database, clock, queue, progress, telemetry, word=word)
    flags = FlagService(database, clock)
    knowledge = KnowledgeService(
        database,
        folder=settings.runbooks_path and settings.runbooks_path.expanduser().absolute(),
        home_folder=settings.home / "knowledge",
        without=settings.incidents.excluded_runbooks,
        remembers=settings.incidents.use_incident_history,
        meaning=packaged_meaning(
            (settings.vector_store_path or settings.home / "vector_store").expanduser().absolute()
        ),
    )
    incidents = IncidentService(
        database, clock, signal, knowledge, telemetry, home=settings.home, watched=_watched(settings, gateway)
    )
    return Services(
        settings,
        clock,
        database,
        announcer,
        queue,
        progress,
        signal,
        access,
        telemetry,
        rca,
        flags,
        knowledge,
        incidents,
        NoticeService(database, clock, incidents, _notices(settings)),
    )


def run_queued_job(job_id: str) -> None:
    """Run one job; RQ calls this function. Skip a job that is done, leased by another worker or deleted."""
    _process_runner().run_next(job_id)


@functools.cache
def _process_runner() -> JobRunner:
    services = build(load_settings())
    services.prepare()
    return services.runner()


def _broker(settings: Settings) -> tuple[Announcer, ProgressSignal]:
    if settings.job_mode == "embedded":
        signal = RedisSignal(settings.redis_url.get_secret_value()) if settings.redis_url else PollingSignal()
        return PollingAnnouncer(), signal
    if settings.redis_url is None:
        raise ConfigurationError(
            "RELAB_JOBS__MODE is rq, but REDIS_URL is not set.",
            remedy="Set REDIS_URL, or use the mode embedded.",
        )
    url = settings.redis_url.get_secret_value()
    return RqAnnouncer(url, settings.rq_queue_name, RQ_FUNCTION), RedisSignal(url)


def _watched(settings: Settings, gateway: LlmGateway) -> WatchedTarget | None:
    """Return the target that the incident responder watches, or None if no target URL is set."""
    url, given = settings.watched_url, settings.incidents
    if url is None:
        return None
    policy = Policy(
        autonomy=Autonomy(given.autonomy),
        autonomy_by_class={name: Autonomy(level) for name, level in given.autonomy_by_class.items()},
        max_actions_per_incident=given.max_actions_per_incident,
        max_actions_per_window=given.max_actions_per_window,
        max_actions_per_part=given.max_actions_per_part,
        action_window_s=given.action_window_s,
        cooldown_s=given.cooldown_s,
    )
    return WatchedTarget(
        name=given.target_name or target_name(url),
        url=url,
        actions_url=settings.action_server_url,
        token=settings.action_server_token,
        settings=settings_for(
            settings.poll_interval_seconds,
            policy=policy,
            critical_error_rate_pct=settings.anomaly_threshold_error_rate,
            use_incident_history=given.use_incident_history,
            model=ModelSettings(
                when=AskWhen(given.ask_model),
                max_calls=given.max_model_calls_per_incident,
                max_tokens=given.max_model_tokens_per_incident,
                max_total_s=given.max_model_time_per_incident_s,
                call_timeout_s=settings.llm.timeout_s,
            ),
        ),
        gateway=_second_opinion(settings, gateway),
    )


def _second_opinion(settings: Settings, gateway: LlmGateway) -> MeteredGateway | None:
    """Return the model that the responder may call, or None if no model is configured or `ask_model` is `never`.

    Data about a target is sent to a model only if the settings allow it.
    """
    if settings.incidents.ask_model == "never":
        return None
    if isinstance(gateway, NullGateway):
        _log.warning("model_not_configured", reason="RELAB_INCIDENTS__ASK_MODEL is set, and no model is configured.")
        return None
    return MeteredGateway(gateway)


def _notices(settings: Settings) -> NoticeSettings:
    """Return the settings of notifications: Slack and PagerDuty addresses, and the people who may answer in Slack."""
    given = settings.notices
    return NoticeSettings(
        slack_webhook_url=given.slack_webhook_url,
        pagerduty_routing_key=given.pagerduty_routing_key,
        pagerduty_url=given.pagerduty_url,
        page_on=PageTrigger(given.page_on),
        public_url=given.public_url,
        slack_signing_secret=given.slack_signing_secret,
        slack_operators=frozenset(given.slack_operators),
        delivery=DeliverySettings(give_up_after_s=given.give_up_after_s),
    )


def _gateway(settings: Settings, clock: Clock) -> LlmGateway:
    """Return the model gateway that the settings describe; without an API key or a base URL, a `NullGateway`.

    If a key is set but the extra is not installed, log a warning and return a `NullGateway`: many
    environments contain keys by chance, and every report is complete without a model. `lab doctor`
    reports what is missing.
    """
    llm = settings.llm
    if settings.openai_api_key is None and settings.anthropic_api_key is None and llm.base_url is None:
        return NullGateway()
    provider = Provider.OPENAI
    if llm.provider == "anthropic" or (llm.provider == "auto" and settings.openai_api_key is None and not llm.base_url):
        provider = Provider.ANTHROPIC
    key = settings.openai_api_key if provider is Provider.OPENAI else settings.anthropic_api_key
    config = LlmConfig(
        provider=provider,
        model=llm.model or settings.llm_model or DEFAULT_MODELS[provider],
        api_key=key,
        base_url=llm.base_url,
        output_method=None if llm.output_method is None else OutputMethod(llm.output_method),
        temperature=None if llm.temperature == "default" else llm.temperature,
        timeout_s=llm.timeout_s,
    )
    limits = BudgetLimits(
        max_calls=llm.max_calls_per_hour,
        max_prompt_tokens=llm.max_tokens_per_hour,
        prompt_usd_per_million=llm.prompt_usd_per_million,
        completion_usd_per_million=llm.completion_usd_per_million,
        window_s=_HOUR_S,
    )
    try:
        return LangChainGateway(config, budget=Budget(limits, clock=clock))
    except LlmNotConfiguredError as error:
        _log.warning("llm_not_configured", error=str(error))
        return NullGateway()
