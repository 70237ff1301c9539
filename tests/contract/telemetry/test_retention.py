"""Pruning on both databases: old runs are deleted in whole, young runs stay, and overviews count only stored runs."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import pytest
from sqlalchemy import text

from relab.bootstrap import Services, build
from relab.core.clock import parse_time
from relab.core.errors import NotFoundError
from relab.telemetry import parts, retention
from relab.telemetry.errors import AgentRunNotFoundError
from relab.telemetry.ingest.reading import check_agent_run
from relab.telemetry.models import RunFilter
from relab.telemetry.retention import PruneCounts
from rig.waiting import wait_until
from support.api.client import run_jobs
from support.clocks import MovableClock
from support.otlp.traces import Trace, encode
from support.telemetry.runs import RunBody, failed_run, minimal_run, step, time_text, tool_call

HOUR_S = 3_600
CUTOFF_US = parse_time(time_text(HOUR_S))
NOW_US = parse_time(time_text(24 * HOUR_S))
HOUR_MS = HOUR_S * 1_000
TABLES = {"agent_runs": "run_id", "timeline_items": "run_id", "spans": "trace_id", "span_origins": "trace_id"}


@pytest.fixture(autouse=True)
def shards(monkeypatch: pytest.MonkeyPatch) -> None:
    """Give every service of a shared database its own roll-up shard, as the random choice nearly always does."""
    numbers = itertools.count()
    monkeypatch.setattr(parts.secrets, "randbelow", lambda limit: next(numbers) % limit)


@pytest.fixture
def here(services: Services) -> Iterator[Services]:
    """An installation whose clock is a day after the start of the sample runs."""
    with at_a_day(services) as made:
        yield made


@contextmanager
def at_a_day(services: Services) -> Iterator[Services]:
    """Build services of another process of the same installation, a day after the start of the sample runs."""
    made = build(services.settings, clock=MovableClock(NOW_US))
    try:
        yield made
    finally:
        made.close()


def post(services: Services, *bodies: RunBody) -> None:
    for body in bodies:
        services.telemetry.ingest(check_agent_run(body))


def post_trace(services: Services, name: str, *, start_ms: float = 0.0) -> str:
    """Store a trace of three spans and return its run id."""
    trace = Trace(name)
    spans = trace.good()
    for span in spans:
        span.start_time_unix_nano += round(start_ms * 1_000_000)
        span.end_time_unix_nano += round(start_ms * 1_000_000)
    assert services.telemetry.ingest_otlp("traces", encode(spans), "protobuf").rejected == 0
    return trace.id


def run_at(run_id: str, offset_s: float, **fields: object) -> RunBody:
    return minimal_run(
        run_id,
        started_at=time_text(offset_s),
        steps=[step("s1", offset_s, latency_ms=offset_s + 1)],
        tool_calls=[tool_call("c1", status="failure")],
        cost={"total_cost_usd": 0.25},
        **fields,
    )


def prune(services: Services, **options: int) -> list[PruneCounts]:
    return list(services.telemetry.prune(CUTOFF_US, **options))


def stored_ids(services: Services) -> set[str]:
    """Return the ids of the listed runs; check that no table holds data of another run."""
    with services.database.read() as session:
        found = {
            table: set(session.execute(text(f"SELECT DISTINCT {column} FROM {table}")).scalars())
            for table, column in TABLES.items()
        }
    listed = {run.run_id for run in services.telemetry.list_runs(RunFilter(), limit=10_000).items}
    assert found["agent_runs"] == listed
    assert found["timeline_items"] | found["spans"] | found["span_origins"] <= listed, "something outlived its run"
    return listed


def old_sums(services: Services) -> int:
    with services.database.read() as session:
        statement = text("SELECT count(*) FROM run_rollups WHERE started_at + span_us <= :cutoff")
        return int(session.execute(statement, {"cutoff": CUTOFF_US}).scalar_one())


def test_old_runs_are_deleted_in_whole_and_young_ones_stay(services: Services, here: Services) -> None:
    post(services, run_at("old-1", 0), run_at("old-2", HOUR_S - 1e-6), run_at("young", HOUR_S), run_at("new", 7_200))
    old_trace, young_trace = post_trace(services, "old"), post_trace(services, "young", start_ms=HOUR_MS)
    with at_a_day(here) as other:
        post(other, run_at("other", 5, status="failure"))
    found = here.telemetry.count_prunable(CUTOFF_US)

    batches = prune(here)

    assert found == PruneCounts(runs=4, spans=3)
    assert batches == [found]
    assert stored_ids(here) == {"young", "new", young_trace}
    assert here.telemetry.timeline("young").total == 2
    assert len(here.telemetry.spans(young_trace).items) == 3
    with pytest.raises(AgentRunNotFoundError):
        here.telemetry.spans(old_trace)
    assert here.telemetry.count_prunable(CUTOFF_US) == PruneCounts()
    assert prune(here) == []


def test_overview_counts_only_the_remaining_runs(services: Services, here: Services) -> None:
    young = [run_at(f"young-{number}", HOUR_S + number) for number in range(3)]
    with at_a_day(here) as other:
        post(services, *[run_at(f"a{number}", 70 * number) for number in range(8)], *young)
        post(other, *[run_at(f"b{number}", 70 * number, status="failure") for number in range(8)])
        # This process replaces a run that the other process ingested.
        post(other, run_at("a1", 70, status="failure"))
    assert here.telemetry.overview(48).total_runs == 19

    prune(here)

    left = here.telemetry.overview(48)
    assert left.total_runs == 3
    # Their status is success, but their only call failed.
    assert left.outcomes["completed_with_errors"] == 3
    assert sum(left.outcomes.values()) == 3
    assert left.success_rate == 0.0
    assert left.total_cost_usd == 0.75
    assert [(item.tool, item.count) for item in left.top_failing_tools] == [("order_lookup", 3)]
    assert left.p95_step_latency_ms == pytest.approx((HOUR_S + 3), rel=0.0101)
    assert old_sums(here) == 0


def test_sums_of_deleted_runs_are_deleted_in_several_transactions(
    here: Services, services: Services, monkeypatch: pytest.MonkeyPatch
) -> None:
    # This is more than the shards of one bucket.
    monkeypatch.setattr(retention, "_SUMS_PER_TRANSACTION", 20)
    post(services, *[run_at(f"r{number}", 60 * number) for number in range(20)])
    with at_a_day(here) as other:
        for number in range(0, 20, 2):
            other.telemetry.delete(f"r{number}")

    prune(here)

    assert old_sums(here) == 0


def test_a_sum_that_still_counts_a_run_stays(here: Services, services: Services) -> None:
    post(services, run_at("old", 0), run_at("late", 60))
    pruning = here.telemetry.prune(CUTOFF_US, batch=1)
    next(pruning)
    next(pruning)
    # This run arrives after the pruning of runs, and before the pruning of their sums.
    post(services, run_at("behind", 30))
    assert list(pruning) == []

    assert stored_ids(here) == {"behind"}
    assert here.telemetry.overview(48).total_runs == 1
    assert [batch.runs for batch in prune(here)] == [1]
    assert here.telemetry.overview(48).total_runs == 0
    assert old_sums(here) == 0


def test_oldest_runs_are_deleted_first_and_the_next_pruning_continues(here: Services) -> None:
    ids = [f"r{number}" for number in range(7)]
    # Two runs have the same start, and their ids decide the order.
    post(here, *[run_at(run_id, 60 * (number // 2)) for number, run_id in enumerate(ids)])
    pruning = here.telemetry.prune(CUTOFF_US, batch=3)

    assert next(pruning) == PruneCounts(runs=3)
    pruning.close()
    assert stored_ids(here) == set(ids[3:])
    assert prune(here, batch=3) == [PruneCounts(runs=3), PruneCounts(runs=1)]
    assert stored_ids(here) == set()


def test_big_runs_make_smaller_batches(here: Services, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retention, "MAX_BATCH_ROWS", 10)
    post(here, *[run_at(f"small-{number}", number) for number in range(4)])
    post(here, minimal_run("big", started_at=time_text(100), steps=[step(f"s{number}") for number in range(30)]))
    # Three spans, of which two are in the timeline.
    traces = [post_trace(here, f"trace-{number}", start_ms=200_000 + number) for number in range(3)]
    here.telemetry.projector.project()

    batches = prune(here, batch=5)

    assert batches == [
        PruneCounts(runs=4, spans=0),
        PruneCounts(runs=1, spans=0),
        PruneCounts(runs=2, spans=6),
        PruneCounts(runs=1, spans=3),
    ]
    assert len(traces) == 3
    assert stored_ids(here) == set()


def test_analyses_of_pruned_runs_are_deleted_by_one_job_per_batch(here: Services) -> None:
    post(here, *[failed_run(f"r{number}", started_at=time_text(number), steps=[]) for number in range(4)])
    post(here, failed_run("young", started_at=time_text(HOUR_S), ended_at=None))
    analyses = {run_id: here.rca.request(run_id).rca_run_id for run_id in ("r0", "r1", "r3", "young")}
    run_jobs(here)
    done = len(here.queue.list())

    prune(here, batch=3)
    # One microsecond later, the smallest difference from the deleted analyses.
    again = MovableClock(NOW_US + 1)
    later = build(here.settings, clock=again)
    post(later, failed_run("r0"))
    second = later.rca.request("r0").rca_run_id
    jobs = len(here.queue.list()) - done
    run_jobs(later)
    later.close()

    assert jobs == 2 + 1
    assert here.rca.get(analyses["young"]).report is not None
    assert here.rca.get(second).report is not None
    assert here.progress.read_after(analyses["young"]) != []
    for run_id in ("r0", "r1", "r3"):
        with pytest.raises(NotFoundError):
            here.rca.get(analyses[run_id])
        assert here.progress.read_after(analyses[run_id]) == []


def test_run_that_gets_a_later_start_during_pruning_stays(here: Services, services: Services) -> None:
    post(services, run_at("a", 0), run_at("moved", 1), run_at("z", 2))
    with ThreadPoolExecutor(1) as pool:
        with services.database.write() as unit:
            # A new post of the run changes its row like this; the change is not committed yet.
            moved = {"start": CUTOFF_US + 1}
            unit.session.execute(text("UPDATE agent_runs SET started_at = :start WHERE run_id = 'moved'"), moved)
            pruned = pool.submit(prune, here)
            wait_until(waits_for_others(services, pruned.running), what="the pruning being held up")
        assert [batch.runs for batch in pruned.result()] == [2]

    assert stored_ids(here) == {"moved"}


def waits_for_others(services: Services, is_running: Callable[[], bool]) -> Callable[[], bool]:
    """Return a check for a waiting transaction; on SQLite every other transaction waits during a write."""
    if services.database.is_sqlite:
        return is_running

    def waits() -> bool:
        with services.database.read() as session:
            waiting = text("SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'")
            return bool(session.execute(waiting).scalar_one())

    return waits


def test_concurrent_writes_and_prunes_are_consistent(services: Services, here: Services) -> None:
    old = [f"old-{number}" for number in range(60)]
    post(services, *[run_at(run_id, number) for number, run_id in enumerate(old)])
    traces = [post_trace(services, f"old-{number}", start_ms=number) for number in range(20)]
    written: list[str] = []
    enough = threading.Event()

    def write(writer: Services) -> None:
        for number in itertools.count():
            body = run_at(f"new-{number}", HOUR_S + number)
            post(writer, body)
            written.extend([body["run_id"], post_trace(writer, f"new-{number}", start_ms=HOUR_MS)])
            if enough.is_set():
                return

    with at_a_day(here) as one, at_a_day(here) as two, at_a_day(here) as writer, ThreadPoolExecutor(3) as pool:
        writing = pool.submit(write, writer)
        pruned = list(pool.map(lambda pruner: prune(pruner, batch=3), (one, two)))
        enough.set()
        writing.result()

    assert sum(batch.runs for batches in pruned for batch in batches) == len(old) + len(traces)
    assert sum(batch.spans for batches in pruned for batch in batches) == 3 * len(traces)
    assert stored_ids(here) == set(written)
    assert here.telemetry.overview(48).total_runs == len(written)
