"""Record the outcomes of requests: counts and latencies by time window, by request template, and in total.

It does no I/O and reads no clock: the caller passes all times.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from relab.load.histogram import LatencyHistogram
from relab.load.models import Counts, LatencySummary, RouteResult, Window

_SHARES = (0.5, 0.9, 0.95, 0.99, 0.999)
_CLASSES = tuple(f"{number}xx" for number in range(10))


class Tally:
    """Mutable counters of requests and sends, with the same names as the fields of `Counts`."""

    __slots__ = (
        "abandoned",
        "bad",
        "completed",
        "dropped",
        "errors",
        "failed",
        "good",
        "offered",
        "retries",
        "sent",
        "statuses",
        "timed_out",
    )

    def __init__(self) -> None:
        self.offered = self.dropped = self.good = self.bad = self.abandoned = 0
        self.sent = self.retries = self.completed = self.failed = self.timed_out = 0
        self.statuses: Counter[int] = Counter()
        self.errors: Counter[str] = Counter()

    def counts(self) -> Counts:
        """Return the current counts, as an immutable value."""
        classes: Counter[str] = Counter()
        for status, count in self.statuses.items():
            classes[_CLASSES[status // 100 % 10]] += count
        return Counts(
            offered=self.offered,
            dropped=self.dropped,
            good=self.good,
            bad=self.bad,
            abandoned=self.abandoned,
            sent=self.sent,
            retries=self.retries,
            completed=self.completed,
            failed=self.failed,
            timed_out=self.timed_out,
            statuses=dict(sorted(classes.items())),
            errors=dict(self.errors.most_common()),
        )


@dataclass(slots=True)
class _Open:
    """A time window of the load that is not closed yet, because some of its requests may still be in flight.

    Attributes:
        index: number of the window, from 0.
        tally: the counts of the window's requests.
        good: latencies of the good requests. A request is good if it ended with a status below 400, or with one that
            its template expects.
        under_way: number of the window's requests that have no outcome yet.
    """

    index: int
    tally: Tally = field(default_factory=Tally)
    good: LatencyHistogram = field(default_factory=LatencyHistogram)
    bad: LatencyHistogram | None = None
    """Created with the first bad request, because most windows have no bad requests."""
    under_way: int = 0


class Entry:
    """The record of one request of a load, from its due time to its outcome.

    Args:
        window: the time window to which the request belongs.
        route: index of the request's template in the mix (the list of the load's request templates).
        due_ns: the due time of the request, in ns after the start of the load.
    """

    __slots__ = ("arrived_ns", "due_ns", "route", "window")

    def __init__(self, window: _Open, route: int, due_ns: int) -> None:
        self.window = window
        self.route = route
        self.due_ns = due_ns
        self.arrived_ns: int | None = None
        """When the latest answer arrived (`time.monotonic_ns`); None without an answer."""


class LoadRecorder:
    """Counts the outcomes and the latencies of the requests of one load.

    All times are in ns after the start of the load; times below 0 belong to the warm-up.

    Args:
        routes: names of the request templates, in the order of the mix (the list of the load's request templates).
        window_ns: length of a time window.
        end_ns: end of the last stage, where the last window ends.
    """

    def __init__(self, routes: Sequence[str], *, window_ns: int, end_ns: int) -> None:
        self._names = tuple(routes)
        self._window_ns = window_ns
        self._end_ns = end_ns
        self._warmup = _Open(-1)
        self._open: deque[_Open] = deque()
        self._next_index = 0
        self._routes = [(Tally(), LatencyHistogram(), LatencyHistogram()) for _ in routes]
        # For each route: counts, latencies of all its requests, latencies of the good ones.
        self._so_far = Tally()
        self._good = LatencyHistogram()
        self._all = LatencyHistogram()
        self._recent = LatencyHistogram()

    def due(self, due_ns: int, route: int) -> Entry:
        """Record that a request is due, and return the entry of this request.

        The caller must later record one outcome of the entry, by `dropped`, `ended` or `abandoned`.

        Args:
            due_ns: the due time, which must not be lower than the due time of the previous call.
            route: index of the request's template in the mix (the list of the load's request templates).
        """
        window = self._warmup if due_ns < 0 else self._window_at(due_ns)
        window.under_way += 1
        entry = Entry(window, route, due_ns)
        for tally in self._tallies(entry):
            tally.offered += 1
        return entry

    def dropped(self, entry: Entry) -> None:
        """Record that the request of `entry` was not sent, because `max_in_flight` requests were in flight."""
        entry.window.under_way -= 1
        for tally in self._tallies(entry):
            tally.dropped += 1

    def sent(self, entry: Entry, *, again: bool = False) -> None:
        """Record that the request of `entry` is sent. With `again`, this send is a retry."""
        for tally in self._tallies(entry):
            tally.sent += 1
            tally.retries += again

    def answered(self, entry: Entry, status: int) -> None:
        """Record that one send of the request of `entry` got a complete answer with this HTTP status."""
        for tally in self._tallies(entry):
            tally.completed += 1
            tally.statuses[status] += 1

    def failed(self, entry: Entry, reason: str) -> None:
        """Record that one send of the request of `entry` failed; `reason` is one word, such as `ECONNREFUSED`."""
        for tally in self._tallies(entry):
            tally.failed += 1
            tally.errors[reason] += 1

    def timed_out(self, entry: Entry) -> None:
        """Record that one send of the request of `entry` got no complete answer within its time limit."""
        for tally in self._tallies(entry):
            tally.timed_out += 1

    def ended(self, entry: Entry, now_ns: int, *, good: bool) -> None:
        """Record that the request of `entry` (the result of `due`) has ended at `now_ns`.

        `good` says whether it ended with a status below 400, or with one that its template expects. The latency of the
        request is `now_ns` minus its due time.
        """
        window, latency_ns = entry.window, now_ns - entry.due_ns
        window.under_way -= 1
        for tally in self._tallies(entry):
            if good:
                tally.good += 1
            else:
                tally.bad += 1
        if window is self._warmup:
            return
        if good:
            window.good.record(latency_ns)
            self._routes[entry.route][2].record(latency_ns)
        else:
            if window.bad is None:
                window.bad = LatencyHistogram()
            window.bad.record(latency_ns)
        self._routes[entry.route][1].record(latency_ns)
        self._recent.record(latency_ns)

    def abandoned(self, entry: Entry) -> None:
        """Record that the request of `entry` had no outcome yet when the load was stopped."""
        entry.window.under_way -= 1
        for tally in self._tallies(entry):
            tally.abandoned += 1

    def close(self, now_ns: int) -> Iterator[Window]:
        """Yield, in order, the time windows that are over at `now_ns`; stop at a window with a request in flight.

        A later call yields that window and those after it. The caller must have called `due` for all requests that were
        due before `now_ns`.
        """
        self._open_until(min(now_ns, self._end_ns))
        while self._open and not self._open[0].under_way and now_ns >= self._end_of(self._open[0].index):
            yield self._closed(self._open.popleft())

    def close_all(self, now_ns: int) -> Iterator[Window]:
        """Yield the remaining time windows up to `now_ns`, the end of the load. No request may be in flight."""
        self._end_ns = min(self._end_ns, max(now_ns, 0))
        self._open_until(self._end_ns)
        while self._open:
            yield self._closed(self._open.popleft())

    def recent(self) -> LatencyHistogram:
        """Return the latencies of requests that ended since the previous call of this method, without the warm-up."""
        found, self._recent = self._recent, LatencyHistogram()
        return found

    def so_far(self) -> Counts:
        """Return the counts of the load so far, without the warm-up."""
        return self._so_far.counts()

    def warmup(self) -> Counts:
        """Return the counts of the warm-up."""
        return self._warmup.tally.counts()

    def latency(self) -> tuple[LatencySummary, LatencySummary]:
        """Return summaries of the latencies so far: `(all ended requests, good requests only)`.

        A request is good if its status is below 400, or is one that its template expects. Only the time windows that
        `close` or `close_all` has yielded are included.
        """
        return summarize(self._all), summarize(self._good)

    def routes(self) -> tuple[RouteResult, ...]:
        """Return the counts and latencies of each request template so far, in the order of the mix."""
        return tuple(
            RouteResult(name=name, counts=tally.counts(), latency=summarize(every), good_latency=summarize(good))
            for name, (tally, every, good) in zip(self._names, self._routes, strict=True)
        )

    def _tallies(self, entry: Entry) -> tuple[Tally, ...]:
        if entry.window is self._warmup:
            return (self._warmup.tally,)
        return entry.window.tally, self._routes[entry.route][0], self._so_far

    def _window_at(self, due_ns: int) -> _Open:
        if not self._open or due_ns >= self._end_of(self._open[-1].index):
            self._open_until(due_ns)
        return self._open[-1]

    def _open_until(self, at_ns: int) -> None:
        """Create a record for each further time window that begins at or before `at_ns`, even without requests.

        `at_ns` is in ns after the start of the load.
        """
        while self._next_index * self._window_ns <= at_ns and self._next_index * self._window_ns < self._end_ns:
            self._open.append(_Open(self._next_index))
            self._next_index += 1

    def _end_of(self, index: int) -> int:
        return min((index + 1) * self._window_ns, self._end_ns)

    def _closed(self, window: _Open) -> Window:
        everything = window.good if window.bad is None else LatencyHistogram.merged((window.good, window.bad))
        self._good.add(window.good)
        self._all.add(everything)
        return Window(
            index=window.index,
            start_s=window.index * self._window_ns / 1e9,
            end_s=self._end_of(window.index) / 1e9,
            counts=window.tally.counts(),
            latency=summarize(everything),
            good_latency=summarize(window.good),
        )


def summarize(histogram: LatencyHistogram) -> LatencySummary:
    """Return count, minimum, mean, percentiles and maximum of a histogram, with the encoded histogram."""
    p50, p90, p95, p99, p999 = histogram.quantiles_ms(_SHARES)
    return LatencySummary(
        count=histogram.count,
        min_ms=histogram.min_ms(),
        mean_ms=histogram.mean_ms(),
        p50_ms=p50,
        p90_ms=p90,
        p95_ms=p95,
        p99_ms=p99,
        p999_ms=p999,
        max_ms=histogram.max_ms(),
        histogram=histogram.encode(),
    )
