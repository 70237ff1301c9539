"""Incidents as agent runs, on each back end: updated with their timelines, with signals and probes, by one leader."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx
import pytest

from relab.core.clock import SystemClock
from relab.core.errors import ConflictError, NotFoundError
from relab.incidents.actions.records import RepairResult
from relab.incidents.briefing import DIAGNOSED
from relab.incidents.models import Snapshot
from relab.incidents.polling.feed import PollFeed
from relab.incidents.postmortem.service import PostmortemService, events_of
from relab.incidents.postmortem.signal_events import KIND, MAX_SIGNALS, recorded
from relab.incidents.postmortem.signal_writer import PART, SignalWriter
from relab.incidents.probes.models import ProbeServer
from relab.incidents.probes.requests import ProbeTransport
from relab.incidents.response.closing_nodes import ClosingNodes
from relab.incidents.response.news import RECURRED
from relab.incidents.service import IncidentService
from relab.incidents.storage.log import IncidentLog
from relab.incidents.storage.models import IncidentOutcome, NewEvent
from relab.incidents.tracing.background_writer import BackgroundWriter
from relab.incidents.tracing.probe_events import RecordingProbeClient
from relab.incidents.tracing.projection import agent_run_id
from relab.incidents.tracing.recorder import RunRecorder
from relab.jobs.backends.embedded import EmbeddedBackend
from relab.jobs.queue import JobQueue
from relab.progress.signal import PollingSignal
from relab.storage import Database
from relab.telemetry.models import AgentRun, IngestReceipt, RunHeader
from relab.telemetry.service import TelemetryService
from rig.waiting import wait_until
from support.clocks import MovableClock
from support.incidents.logs import SECOND_US, opened
from support.incidents.probe_answers import WELL
from support.incidents.stored import begun, handed_over, mended

DAY_US = 86_400 * SECOND_US
OPENED_US = 1_800_000_000 * SECOND_US


@pytest.fixture
def telemetry(log_database: Database) -> TelemetryService:
    clock = SystemClock()
    return TelemetryService(log_database, clock, JobQueue(log_database, clock, EmbeddedBackend()))


@pytest.fixture
def recorder(log: IncidentLog, telemetry: TelemetryService, target: str) -> RunRecorder:
    return RunRecorder(log, telemetry, SystemClock(), target)


@pytest.fixture
def now_us() -> int:
    return SystemClock().now_us()


def polls(first: int, last: int) -> list[Snapshot]:
    """Return one poll for each second from `first` to `last`, in seconds after the opening."""
    return [
        Snapshot(OPENED_US + second * SECOND_US, numbers={"errors.pct": float(second)})
        for second in range(first, last + 1)
    ]


def test_run_exists_while_the_incident_is_open_and_ends_with_it(
    log: IncidentLog, telemetry: TelemetryService, recorder: RunRecorder, target: str, now_us: int
) -> None:
    incident_id = begun(log, target, now_us)
    run_id = agent_run_id(incident_id)

    assert recorder.catch_up() == 1
    assert recorder.catch_up() == 0
    first = telemetry.get(run_id)
    log.close(incident_id, at_us=now_us, outcome=IncidentOutcome.RESOLVED)
    assert recorder.catch_up() == 1
    last = telemetry.get(run_id)

    assert first.status == "running"
    assert first.ended_at is None
    assert last.status == "success"
    assert last.ended_at == now_us
    assert last.counts.steps == first.counts.steps + 1
    assert (last.model_extra or {})["incident"]["last_seq"] == log.get(incident_id).last_seq


def test_restart_continues_the_recording(
    log: IncidentLog, telemetry: TelemetryService, recorder: RunRecorder, target: str, now_us: int
) -> None:
    over, handed = mended(log, target, now_us), handed_over(log, target, now_us, [RepairResult.FAILED])
    assert recorder.catch_up() == 2
    before = telemetry.get(agent_run_id(over))
    log.append(handed, NewEvent("noted", "A word more."), at_us=now_us)

    again = RunRecorder(log, telemetry, SystemClock(), target)
    assert again.catch_up() == 1
    assert again.catch_up() == 0
    again.record(over)
    # Without its cache the recorder writes what another process would write.
    recorder.clear_cache()
    assert recorder.catch_up() == 0
    assert telemetry.get(agent_run_id(over)).content_hash == before.content_hash


def test_run_that_is_deleted_after_the_end_is_not_written_again(
    log: IncidentLog, telemetry: TelemetryService, target: str, now_us: int
) -> None:
    clock = MovableClock(now_us)
    incident_id = mended(log, target, now_us)
    assert RunRecorder(log, telemetry, clock, target).catch_up() == 1
    telemetry.delete(agent_run_id(incident_id))

    clock.us = now_us + 2 * DAY_US
    assert RunRecorder(log, telemetry, clock, target).catch_up() == 0
    with pytest.raises(NotFoundError):
        telemetry.get(agent_run_id(incident_id))


class Refusing(TelemetryService):
    """A telemetry service that rejects the run whose id is `refused`."""

    refused = ""

    def ingest(self, run: AgentRun) -> IngestReceipt:
        """Store a run, or raise `ConflictError` for the rejected id."""
        if run.run_id == self.refused:
            raise ConflictError("It is somebody else's.")
        return super().ingest(run)


def test_run_that_cannot_be_written_does_not_block_others(
    log: IncidentLog, log_database: Database, target: str, now_us: int
) -> None:
    clock = SystemClock()
    telemetry = Refusing(log_database, clock, JobQueue(log_database, clock, EmbeddedBackend()))
    fine, refused = mended(log, target, now_us), mended(log, target, now_us + 1)
    telemetry.refused = agent_run_id(refused)
    recorder = RunRecorder(log, telemetry, clock, target)

    assert recorder.catch_up() == 1
    assert recorder.catch_up() == 0
    assert telemetry.get(agent_run_id(fine)).status == "success"


class Deleting(TelemetryService):
    """A telemetry service that calls `delete` once, when the run with the id `deleted` is read."""

    deleted = ""
    delete_incident: Callable[[], None]

    def get(self, agent_run_id: str) -> RunHeader:
        """Return a run."""
        if agent_run_id == self.deleted:
            self.delete_incident()
        return super().get(agent_run_id)


def test_incident_that_is_deleted_meanwhile_does_not_block_others(
    log: IncidentLog, log_database: Database, target: str, now_us: int
) -> None:
    clock = SystemClock()
    telemetry = Deleting(log_database, clock, JobQueue(log_database, clock, EmbeddedBackend()))
    fine, deleted = mended(log, target, now_us), mended(log, target, now_us + 1)
    telemetry.deleted = agent_run_id(deleted)
    telemetry.delete_incident = lambda: log.forget([deleted])

    assert RunRecorder(log, telemetry, clock, target).catch_up() == 1
    assert telemetry.get(agent_run_id(fine)).status == "success"


def test_signals_are_stored_while_the_incident_is_open_and_each_poll_once(log: IncidentLog, target: str) -> None:
    incident_id = opened(log, target, at_us=OPENED_US).incident_id
    keeper = SignalWriter(log, SystemClock())

    assert keeper.keep(incident_id, polls(-400, 0))
    assert not keeper.keep(incident_id, polls(-400, PART - 1))
    assert keeper.keep(incident_id, polls(-400, PART))
    # The next writer stands for another process that has fewer polls in memory.
    assert SignalWriter(log, SystemClock()).keep(incident_id, polls(30, 2 * PART + 5))

    (figure,) = PostmortemService(log).of(incident_id).signals
    assert [(at - OPENED_US) // SECOND_US for at, _ in figure.points] == list(range(-300, 2 * PART + 6))


def test_signals_of_a_long_incident_have_bounded_size(log: IncidentLog, target: str) -> None:
    incident_id = opened(log, target, at_us=OPENED_US).incident_id
    keeper, night = SignalWriter(log, SystemClock()), polls(-300, 12_000)

    for second in range(0, 12_000, 2):
        keeper.keep(incident_id, night[max(second - 1_700, 0) : second + 301])

    parts = [event for event in events_of(log, incident_id) if event.kind == KIND]
    assert len(parts) < 60
    assert all(len(event.content["numbers"]) <= MAX_SIGNALS for event in parts)
    (figure,) = PostmortemService(log).of(incident_id).signals
    assert len(figure.points) <= 600
    assert figure.points[-1][0] > OPENED_US + 10_000 * SECOND_US


def test_signals_of_a_week_are_stored_although_the_feed_holds_few_polls(log: IncidentLog, target: str) -> None:
    incident_id = opened(log, target, at_us=OPENED_US).incident_id
    keeper, week = SignalWriter(log, SystemClock()), polls(0, 30_000)

    for second in range(0, 30_000, 100):
        keeper.keep(incident_id, week[max(second - 2_000, 0) : second])

    stored = recorded(events_of(log, incident_id))
    assert stored.times_us[-1] > OPENED_US + 28_000 * SECOND_US


def test_long_timeline_is_read_to_its_end(
    log: IncidentLog, log_database: Database, target: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("relab.incidents.storage.log.MAX_EVENTS_PER_READ", 3)
    incident_id = opened(log, target, at_us=OPENED_US).incident_id
    for number in range(5):
        log.append(incident_id, NewEvent(RECURRED, str(number)), at_us=OPENED_US)
    said = [{"fact": "disk.used_pct", "value": 99.0, "verbatim": "99", "request": "GET /disk"}]
    log.append(incident_id, NewEvent(DIAGNOSED, content={"evidence": said}), at_us=OPENED_US)
    services: Any = SimpleNamespace(knowledge=SimpleNamespace(forget=None), telemetry=None)
    service = IncidentService(
        log_database,
        SystemClock(),
        PollingSignal(),
        lambda: services.knowledge,
        services.telemetry,
        home=tmp_path,
        watched=lambda: None,
    )
    world: Any = SimpleNamespace(log=log, blocking=asyncio.to_thread)

    assert [text for name, text in service.briefing(incident_id).details if name == "Evidence"]
    assert asyncio.run(ClosingNodes(world)._outages(incident_id)) == " It recurred 5 times before that."


def test_probes_are_added_to_the_timeline_of_their_incident(log: IncidentLog, target: str) -> None:
    incident_id = opened(log, target, at_us=SystemClock().now_us()).incident_id

    async def answer(request: httpx.Request) -> httpx.Response:
        path = request.url.raw_path.decode()
        return httpx.Response(503) if "cache" in path else httpx.Response(200, json=WELL[path])

    async def go() -> None:
        current: list[str | None] = [None]
        transports = {base: httpx.MockTransport(answer) for base in ProbeServer}
        asker = ProbeTransport("http://target", "http://actions", transports=transports)
        probes = RecordingProbeClient(asker, log, SystemClock(), lambda: current[0])
        await probes.run(["pool"])
        current[0] = incident_id
        found = await probes.run(["pool", "cache"])
        assert "pool.used" in found.facts
        # Probes still run if the incident no longer exists, as after a pruning.
        current[0] = "gone"
        await probes.run(["pool"])

    asyncio.run(go())

    (told,) = [event for event in log.read_after(incident_id) if event.kind == "looked"]
    pool, cache = told.content["looks"]
    assert pool["look"] == "pool"
    assert pool["facts"]["pool.used"] == 2.0
    assert pool["absent"] == {}
    assert cache["facts"] == {}
    assert list(cache["absent"].values()) == ["answered 503"]
    assert "No answer to target GET /api/v1/diagnostics/cache." in told.message


class AtWork:
    """A stand-in for a responder whose leadership and incident the test sets."""

    def __init__(self, incident_id: str) -> None:
        self.is_leading = self.has_led = False
        self.incident_id: str | None = incident_id


def test_leader_writes_periodically_and_once_more_on_shutdown(
    log: IncidentLog, telemetry: TelemetryService, recorder: RunRecorder, target: str
) -> None:
    incident_id = opened(log, target, at_us=OPENED_US).incident_id
    run_id = agent_run_id(incident_id)

    async def go() -> None:
        responder, feed = AtWork(incident_id), PollFeed()
        await feed.put(polls(0, 0)[0])
        scribe = BackgroundWriter(responder, feed, recorder, SignalWriter(log, SystemClock()))
        async with scribe.writing():
            # The writer checks once more for changes when it stops, but does not lead yet.
            pass
        assert not await asyncio.to_thread(is_recorded, telemetry, run_id)
        responder.is_leading = responder.has_led = True
        async with scribe.writing(every_s=0.01):
            await asyncio.to_thread(wait_until, lambda: is_recorded(telemetry, run_id), what="the run")
            await asyncio.to_thread(log.close, incident_id, at_us=OPENED_US, outcome=IncidentOutcome.PASSED)
            # The writer stops before its next check.
            responder.is_leading = False

    asyncio.run(go())

    assert telemetry.get(run_id).status == "cancelled"
    assert [event.kind for event in log.read_after(incident_id)].count(KIND) == 1


def is_recorded(telemetry: TelemetryService, run_id: str) -> bool:
    try:
        return telemetry.get(run_id).run_id == run_id
    except NotFoundError:
        return False
