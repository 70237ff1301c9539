"""The load recorder: windows, routes and totals agree for any sequence of requests."""

from __future__ import annotations

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from relab.load.histogram import LatencyHistogram
from relab.load.models import Window
from relab.load.recorder import Entry, LoadRecorder

MS = 1_000_000
WINDOW_NS = 100 * MS
END_NS = 450 * MS

OUTCOMES = st.sampled_from(["good", "bad", "dropped", "abandoned"])
REQUESTS = st.lists(
    st.tuples(
        st.integers(min_value=-80 * MS, max_value=END_NS - 1),
        st.integers(min_value=0, max_value=300 * MS),
        OUTCOMES,
        st.integers(min_value=0, max_value=1),
    ),
    max_size=60,
).map(sorted)


def book(recorder: LoadRecorder, entry: Entry, outcome: str, at_ns: int) -> None:
    if outcome == "abandoned":
        recorder.sent(entry)
        recorder.abandoned(entry)
        return
    if outcome == "bad":
        recorder.sent(entry)
        recorder.failed(entry, "ECONNRESET")
        recorder.sent(entry, again=True)
        recorder.timed_out(entry)
        recorder.ended(entry, at_ns, good=False)
        return
    recorder.sent(entry)
    recorder.answered(entry, 200)
    recorder.ended(entry, at_ns, good=True)


def play(requests: list[tuple[int, int, str, int]]) -> tuple[LoadRecorder, list[Window]]:
    """Record the requests in order of time, closing due windows after each event; return recorder and windows."""
    recorder = LoadRecorder(["a", "b"], window_ns=WINDOW_NS, end_ns=END_NS)
    windows: list[Window] = []
    events = sorted(
        [(due_ns, 0, number) for number, (due_ns, *_) in enumerate(requests)]
        + [(due_ns + took_ns, 1, number) for number, (due_ns, took_ns, *_) in enumerate(requests)]
    )
    entries: dict[int, Entry] = {}
    for at_ns, ends, number in events:
        due_ns, _, outcome, route = requests[number]
        if not ends:
            entries[number] = recorder.due(due_ns, route)
            if outcome == "dropped":
                recorder.dropped(entries[number])
        elif outcome != "dropped":
            book(recorder, entries[number], outcome, at_ns)
        windows += recorder.close(at_ns)
    return recorder, [*windows, *recorder.close_all(2 * END_NS)]


@given(requests=REQUESTS)
def test_windows_hold_the_requests_that_were_due_in_them(requests: list[tuple[int, int, str, int]]) -> None:
    recorder, windows = play(requests)

    assert [window.index for window in windows] == [0, 1, 2, 3, 4]
    assert windows[-1].end_s == END_NS / 1e9
    for window in windows:
        mine = [request for request in requests if request[0] >= 0 and request[0] // WINDOW_NS == window.index]
        outcomes = Counter(outcome for _, _, outcome, _ in mine)
        counts = window.counts
        assert counts.offered == len(mine)
        assert {"good": counts.good, "bad": counts.bad, "dropped": counts.dropped, "abandoned": counts.abandoned} == {
            name: outcomes[name] for name in ("good", "bad", "dropped", "abandoned")
        }
        assert (counts.retries, counts.timed_out, counts.failed) == (outcomes["bad"],) * 3
        ended = LatencyHistogram()
        for _, took_ns, outcome, _ in mine:
            if outcome in {"good", "bad"}:
                ended.record(took_ns)
        assert window.latency.histogram == ended.encode()
    everything, good = recorder.latency()
    assert everything.count == sum(window.latency.count for window in windows)
    assert good.count == sum(window.counts.good for window in windows)


@given(requests=REQUESTS)
def test_routes_sum_to_the_total_and_warm_up_is_counted_apart(requests: list[tuple[int, int, str, int]]) -> None:
    recorder, _ = play(requests)

    whole, routes, warmup = recorder.so_far(), recorder.routes(), recorder.warmup()
    for name in (
        "offered",
        "dropped",
        "good",
        "bad",
        "abandoned",
        "sent",
        "retries",
        "completed",
        "failed",
        "timed_out",
    ):
        assert sum(getattr(route.counts, name) for route in routes) == getattr(whole, name)
    assert warmup.offered == sum(due_ns < 0 for due_ns, *_ in requests)
    assert whole.offered + warmup.offered == len(requests)
    assert sum(route.latency.count for route in routes) == recorder.latency()[0].count


def test_window_closes_after_its_requests_and_after_earlier_windows() -> None:
    recorder = LoadRecorder(["a"], window_ns=WINDOW_NS, end_ns=END_NS)
    late = recorder.due(10 * MS, 0)
    soon = recorder.due(110 * MS, 0)
    recorder.sent(late)
    recorder.sent(soon)
    recorder.answered(soon, 204)
    recorder.ended(soon, 120 * MS, good=True)

    assert list(recorder.close(250 * MS)) == []
    recorder.answered(late, 500)
    recorder.ended(late, 260 * MS, good=False)
    first, second = recorder.close(260 * MS)
    assert first.counts.bad == 1
    assert first.counts.statuses == {"5xx": 1}
    assert second.counts.statuses == {"2xx": 1}
    assert first.latency.max_ms is not None
    assert first.latency.max_ms >= 250
    assert first.good_latency.p50_ms is None


def test_recently_finished_requests_are_reported_once() -> None:
    recorder = LoadRecorder(["a"], window_ns=WINDOW_NS, end_ns=END_NS)
    book(recorder, recorder.due(0, 0), "good", 5 * MS)

    assert recorder.recent().count == 1
    assert recorder.recent().count == 0


def test_stopped_load_has_no_windows_after_its_end() -> None:
    recorder = LoadRecorder(["a"], window_ns=WINDOW_NS, end_ns=END_NS)
    book(recorder, recorder.due(0, 0), "good", 5 * MS)

    windows = list(recorder.close_all(130 * MS))
    assert [(window.start_s, window.end_s) for window in windows] == [(0.0, 0.1), (0.1, 0.13)]
