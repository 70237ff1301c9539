"""The windows of a load, its progress reports, an early stop, and errors that end it."""

from __future__ import annotations

import asyncio
from threading import Event

import pytest

from relab.load.errors import MixError, RemoteTargetError, UnreachableTargetError
from relab.load.models import Counts, LoadPlan, LoadResult, Progress, Stage, Window
from relab.load.service import LatencyHistogram, check_target, make_plan, parse_mix, run, run_load, single_request
from rig.load_servers import Behaviour, KnownServer, known_server

pytestmark = pytest.mark.full

SUMS = sorted(Counts.model_fields.keys() - {"statuses", "errors"})


def plan_of(server: KnownServer, path: str, *stages: Stage, **fields: object) -> LoadPlan:
    base, mix = single_request(server.url + path)
    return make_plan(url=base, mix=mix, stages=stages, **fields)


def check_books(result: LoadResult) -> None:
    """Assert that the windows add up to the result, and that every due request has exactly one outcome."""
    for name in SUMS:
        assert sum(getattr(window.counts, name) for window in result.windows) == getattr(result.counts, name), name
    for counts in (result.counts, *(window.counts for window in result.windows)):
        assert counts.offered == counts.dropped + counts.good + counts.bad + counts.abandoned
        ended = counts.completed + counts.failed + counts.timed_out
        assert ended <= counts.sent <= counts.offered - counts.dropped + counts.retries
        if not counts.abandoned:
            assert ended == counts.sent == counts.offered - counts.dropped + counts.retries
        assert sum(counts.statuses.values()) == counts.completed
        assert sum(counts.errors.values()) == counts.failed
    for window in result.windows:
        assert window.latency.count == window.counts.good + window.counts.bad
        assert window.good_latency.count == window.counts.good
    merged = LatencyHistogram.merged(LatencyHistogram.decode(window.latency.histogram) for window in result.windows)
    assert merged.encode() == result.latency.histogram


def test_windows_follow_the_stages_and_add_up() -> None:
    seen: list[Window] = []
    with known_server(Behaviour(delays_ms=(30,))) as server:
        plan = plan_of(
            server,
            "/ok",
            Stage(duration_s=0.5, rate_per_s=40),
            Stage(duration_s=0.5, rate_per_s=0),
            Stage(duration_s=0.5, rate_per_s=40, to_rate_per_s=120),
            window_s=0.25,
        )
        result = run_load(plan, seen.append)

    assert [window.counts.offered for window in result.windows] == [10, 10, 0, 0, 15, 25]
    assert [window.index for window in seen] == list(range(6))
    assert tuple(seen) == result.windows
    check_books(result)


def test_last_window_ends_with_the_load_and_outcomes_count_in_the_window_of_the_due_time() -> None:
    with known_server(Behaviour(delays_ms=(700,))) as server:
        result = run_load(plan_of(server, "/ok", Stage(duration_s=0.5, rate_per_s=20), window_s=0.2))

    assert [(window.start_s, window.end_s) for window in result.windows] == [(0.0, 0.2), (0.2, 0.4), (0.4, 0.5)]
    assert [window.counts.good for window in result.windows] == [4, 4, 2]
    assert result.duration_s > 0.5
    check_books(result)


def test_stopped_load_returns_the_result_so_far() -> None:
    stop = Event()

    def stop_after_two(window: Window) -> None:
        if window.index == 1:
            stop.set()

    with known_server(Behaviour(delays_ms=(0, 0, 0, 20))) as server:
        plan = plan_of(server, "/ok", Stage(duration_s=60, rate_per_s=100), window_s=0.2)
        result = run_load(plan, stop_after_two, stop)

    assert result.stopped
    assert 2 <= len(result.windows) < 150
    assert result.counts.offered < 3_000
    assert "The load was stopped before its end." in result.problems
    check_books(result)


def test_hanging_requests_are_abandoned_when_the_load_stops() -> None:
    stop = Event()

    def stop_with_ten(progress: Progress) -> None:
        if progress.in_flight >= 10:
            stop.set()

    with known_server() as server:
        plan = plan_of(server, "/hang", Stage(duration_s=60, rate_per_s=100), window_s=0.1)
        result = run_load(plan, stop=stop, on_progress=stop_with_ten)

    assert result.counts.abandoned == result.counts.offered >= 10
    # The last due requests may not have been sent yet.
    assert result.counts.sent >= 8
    assert result.latency.p50_ms is None
    check_books(result)


def test_windows_add_up_with_failures_and_retries() -> None:
    with known_server() as server:
        plan = plan_of(server, "/reset", Stage(duration_s=0.5, rate_per_s=60), retries=2, window_s=0.1, max_in_flight=3)
        result = run_load(plan)

    assert result.counts.bad + result.counts.dropped == 30
    assert result.counts.retries == 2 * result.counts.bad
    check_books(result)


def test_progress_is_reported_while_the_load_runs() -> None:
    told: list[Progress] = []
    with known_server() as server:
        plan = plan_of(server, "/ok", Stage(duration_s=0.6, rate_per_s=50), window_s=0.1, warmup_s=1)
        run_load(plan, on_progress=told.append)

    assert told[0].warming_up
    assert told[0].counts.offered == 0
    assert not told[-1].warming_up
    assert [progress.counts.offered for progress in told] == sorted(progress.counts.offered for progress in told)
    assert told[-1].counts.good > 0


def test_an_error_of_a_callback_ends_the_load() -> None:
    def fail(_: Window) -> None:
        raise RuntimeError("the watcher is broken")

    with known_server() as server, pytest.raises(RuntimeError) as caught:
        run_load(plan_of(server, "/ok", Stage(duration_s=60, rate_per_s=20), window_s=0.1), fail)
    assert caught.value.args == ("the watcher is broken",)


def test_a_request_that_cannot_be_sent_ends_the_load_with_its_name() -> None:
    text = r"""
    values: {v: {kind: choice, of: ["a\r\nB: c"]}}
    requests: [{name: split, path: /ok, headers: {A: "{v}"}}]
    """
    with known_server() as server:
        plan = make_plan(url=server.url, mix=parse_mix(text, "test"), stages=[Stage(duration_s=9, rate_per_s=20)])
        with pytest.raises(MixError, match="'split'"):
            run_load(plan)
        assert server.truth().rows == []


def test_a_load_runs_on_the_loop_of_its_caller() -> None:
    with known_server() as server:
        result = asyncio.run(run(plan_of(server, "/ok", Stage(duration_s=0.3, rate_per_s=100))))

    assert result.counts.good == 30


def test_target_on_another_machine_is_rejected_before_a_request_is_sent() -> None:
    base, mix = single_request("http://192.0.2.7:9/")
    plan = make_plan(url=base, mix=mix, stages=[Stage(duration_s=1, rate_per_s=1)])

    with pytest.raises(RemoteTargetError):
        run_load(plan)
    with pytest.raises(RemoteTargetError):
        check_target(plan)


def test_check_before_a_load_reports_an_unreachable_target() -> None:
    with known_server() as server:
        plan = plan_of(server, "/ok", Stage(duration_s=1, rate_per_s=1))
        check_target(plan)
    with pytest.raises(UnreachableTargetError):
        check_target(plan)
