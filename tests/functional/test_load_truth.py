"""The results of the load generator, compared with what the loaded server measured."""

from __future__ import annotations

import pytest

from relab.load.models import Arrivals, LoadPlan, Stage
from relab.load.service import LatencyHistogram, make_plan, parse_mix, run_load
from rig.load_servers import Behaviour, KnownServer, Truth, closed_loop_ms, known_server

pytestmark = pytest.mark.full

DIGITS = 0.999
"""The precision of a latency in an HdrHistogram with three significant digits."""


def numbered(server: KnownServer, path: str, rate_per_s: float, duration_s: float, **fields: object) -> LoadPlan:
    """Return a plan whose requests have their sequence number in the query."""
    mix = parse_mix(
        f"{{values: {{n: {{kind: sequence}}}}, requests: [{{name: it, path: '{path}', query: {{n: '{{n}}'}}}}]}}",
        "test",
    )
    stages = (Stage(duration_s=duration_s, rate_per_s=rate_per_s),)
    return make_plan(url=server.url, mix=mix, stages=stages, **fields)


def rank(values: list[float], share: float) -> float:
    """Return the value at a quantile of sorted values, by the rank that HdrHistogram uses."""
    return values[max(1, int(share * len(values) + 0.5)) - 1]


def numbers(truth: Truth) -> list[int]:
    return sorted(row[0] for row in truth.rows)


@pytest.mark.parametrize("arrivals", list(Arrivals))
def test_reported_latencies_match_the_delays_of_the_server(arrivals: Arrivals) -> None:
    with known_server(Behaviour(delays_ms=(5, 20, 50))) as server:
        plan = numbered(server, "/ok", 150, 2, arrivals=arrivals, seed=3)
        result = run_load(plan)
        truth = server.truth()

    true_ms = truth.latencies_ms(plan, result)
    assert numbers(truth) == list(range(result.counts.offered))
    assert result.counts.good == result.latency.count == len(true_ms)
    # The client reads a response after the server has written it: never earlier, and at most 150 ms later.
    for share, found in ((0.5, result.latency.p50_ms), (0.99, result.latency.p99_ms)):
        assert found is not None
        assert rank(true_ms, share) * DIGITS <= found <= rank(true_ms, share) + 150
    assert result.latency.p50_ms is not None
    assert result.latency.p50_ms >= 20


def test_open_loop_measures_a_stall_that_a_closed_loop_hides() -> None:
    stall = Behaviour(stall_at=(200,), stall_ms=300)
    with known_server(stall) as server:
        plan = numbered(server, "/ok", 400, 2)
        result = run_load(plan)
        truth = server.truth()
    with known_server(stall) as server:
        closed_ms = closed_loop_ms(server, connections=2, requests=800)

    true_ms = truth.latencies_ms(plan, result)
    found = LatencyHistogram.decode(result.latency.histogram)
    # Of the 120 requests that were due in the stall, 80 were due more than 100 ms before its end.
    assert len(truth.stalls) == 1
    assert sum(value > 100 for value in true_ms) >= 79
    assert found.count_above_ms(100) >= sum(value > 100 / DIGITS for value in true_ms)
    assert result.latency.p99_ms is not None
    assert result.latency.p99_ms >= rank(true_ms, 0.99) * DIGITS >= 250
    # The two connections of the closed loop waited, so only two of its requests measured the stall. The limit is that of
    # the open loop's percentile above, because a busy machine delays some requests of either loop.
    assert rank(closed_ms, 0.99) < 250
    assert closed_ms[-1] >= 290 * DIGITS


def test_requests_are_sent_while_earlier_ones_hang_and_dropped_beyond_the_limit() -> None:
    with known_server() as server:
        plan = numbered(server, "/hang", 100, 1, max_in_flight=10, timeout_s=4)
        result = run_load(plan)
        truth = server.truth()

    counts = result.counts
    assert counts.offered == 100
    assert counts.sent == 10
    assert counts.dropped == 90
    assert counts.timed_out == 10
    assert counts.bad == 10
    assert numbers(truth) == list(range(10))
    assert result.latency.count == 10
    assert result.latency.p50_ms is not None
    assert result.latency.p50_ms >= 4_000 * DIGITS
    assert any("90 requests were dropped" in problem for problem in result.problems)


@pytest.mark.parametrize(
    ("path", "reasons"),
    [
        ("/reset", {"ECONNRESET", "disconnected"}),
        ("/cut", {"answer_cut_off"}),
        ("/garbage", {"not_http"}),
    ],
)
def test_failed_send_is_reported_with_its_reason_and_not_retried(path: str, reasons: set[str]) -> None:
    with known_server() as server:
        result = run_load(numbered(server, path, 50, 0.4))
        truth = server.truth()

    assert numbers(truth) == list(range(20))
    assert result.counts.failed == 20
    assert result.counts.bad == 20
    assert result.counts.completed == 0
    assert result.counts.errors.keys() <= reasons
    assert sum(result.counts.errors.values()) == 20
    assert any(problem.startswith("No request was answered") for problem in result.problems)


def test_request_lost_on_a_reused_connection_fails_and_is_not_sent_again() -> None:
    text = """
    values: {n: {kind: sequence}, path: {kind: choice, of: [ok, reset]}}
    requests: [{name: it, path: "/{path}", query: {n: "{n}"}}]
    """
    with known_server() as server:
        stages = (Stage(duration_s=1, rate_per_s=100),)
        result = run_load(make_plan(url=server.url, mix=parse_mix(text, "test"), stages=stages))
        truth = server.truth()

    lost = sum(row[1] == "/reset" for row in truth.rows)
    assert numbers(truth) == list(range(100))
    assert 0 < lost == result.counts.failed
    assert result.counts.good == 100 - lost


def test_refused_connections_count_as_failed_requests() -> None:
    with known_server() as server:
        plan = numbered(server, "/ok", 50, 0.2)
    result = run_load(plan)

    assert result.counts.errors == {"ECONNREFUSED": 10}
    assert result.counts.error_rate_pct == 100.0


def test_retries_count_as_sends_but_not_as_requests() -> None:
    with known_server() as server:
        result = run_load(numbered(server, "/flaky/2", 50, 1, retries=3, retry_delay_s=0.02))
        truth = server.truth()

    counts = result.counts
    assert numbers(truth) == sorted(list(range(50)) * 3)
    assert counts.offered == 50
    assert counts.sent == 150
    assert counts.retries == 100
    assert counts.good == 50
    assert counts.bad == 0
    assert counts.statuses == {"2xx": 50, "5xx": 100}
    assert result.latency.count == 50
    assert result.latency.min_ms is not None
    # The timers of the event loop have a resolution of 1 ms and may fire up to 1 ms early.
    assert result.latency.min_ms >= 38


def test_permanent_error_response_is_not_retried() -> None:
    with known_server() as server:
        result = run_load(numbered(server, "/status/404", 50, 0.2, retries=3))

    assert result.counts.sent == 10
    assert result.counts.bad == 10
    assert result.counts.statuses == {"4xx": 10}


def test_the_warm_up_is_sent_and_not_counted() -> None:
    with known_server() as server:
        result = run_load(numbered(server, "/ok", 100, 0.5, warmup_s=0.5))
        truth = server.truth()

    assert result.warmup.good == 50
    assert result.counts.good == result.latency.count == 50
    assert len(truth.rows) == 100


def test_connections_are_reused_unless_keep_alive_is_off() -> None:
    with known_server() as server:
        run_load(numbered(server, "/ok", 100, 0.5, connections=1))
        kept = server.truth()
        run_load(numbered(server, "/ok", 100, 0.5, keep_alive=False))
        anew = server.truth()

    # Each call of `truth` opens a connection too.
    assert kept.connections == 2
    assert anew.connections - kept.connections == 51
    assert len(anew.rows) == 100
