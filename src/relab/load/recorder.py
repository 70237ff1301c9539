"""What became of requests: counts and histograms by window, by route, and in all. Pure: it is told the times."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from relab.load.histogram import LatencyHistogram
from relab.load.models import Counts, Latency, RouteResult, Window

_SHARES = (0.5, 0.9, 0.95, 0.99, 0.999)
_CLASSES = tuple(f"{number}xx" for number in range(10))


class Tally:
    """Counts that grow; the names are those of `Counts`."""

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
        """Return the counts as they are now."""
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
    """A window whose requests may still be under way."""

    index: int
    tally: Tally = field(default_factory=Tally)
    good: LatencyHistogram = field(default_factory=LatencyHistogram)
    bad: LatencyHistogram | None = None
    """Made with the first bad request: most windows have none."""
    under_way: int = 0


class Entry:
    """One request's place in the books: its window and its route, from when it was due to its outcome."""

    __slots__ = ("arrived_ns", "due_ns", "route", "window")

    def __init__(self, window: _Open, route: int, due_ns: int) -> None:
        self.window = window
        self.route = route
        self.due_ns = due_ns
        self.arrived_ns: int | None = None
        """When the last answer was there, by `time.monotonic_ns`; None if there was none."""


class Recorder:
    """The books of one load. Times are ns after its start; those before 0 belong to the warm-up.

    Args:
        routes: names, in the order of the mix.
        window_ns: length of a window.
        end_ns: of the last stage; the last window ends there.
    """

    def __init__(self, routes: Sequence[str], *, window_ns: int, end_ns: int) -> None:
        self._names = tuple(routes)
        self._window_ns = window_ns
        self._end_ns = end_ns
        self._warmup = _Open(-1)
        self._open: deque[_Open] = deque()
        self._next_index = 0
        self._routes = [(Tally(), LatencyHistogram()) for _ in routes]
        self._so_far = Tally()
        self._good = LatencyHistogram()
        self._all = LatencyHistogram()
        self._recent = LatencyHistogram()

    def due(self, due_ns: int, route: int) -> Entry:
        """Book a request that is due; times must not fall. It ends with `dropped`, `ended` or `abandoned`."""
        window = self._warmup if due_ns < 0 else self._window_at(due_ns)
        window.under_way += 1
        entry = Entry(window, route, due_ns)
        for tally in self._tallies(entry):
            tally.offered += 1
        return entry

    def dropped(self, entry: Entry) -> None:
        """Book that there was no room for the request."""
        entry.window.under_way -= 1
        for tally in self._tallies(entry):
            tally.dropped += 1

    def sent(self, entry: Entry, *, again: bool = False) -> None:
        """Book a send, the first one or a retry."""
        for tally in self._tallies(entry):
            tally.sent += 1
            tally.retries += again

    def answered(self, entry: Entry, status: int) -> None:
        """Book a whole answer to a send."""
        for tally in self._tallies(entry):
            tally.completed += 1
            tally.statuses[status] += 1

    def failed(self, entry: Entry, reason: str) -> None:
        """Book a send that got no whole answer."""
        for tally in self._tallies(entry):
            tally.failed += 1
            tally.errors[reason] += 1

    def timed_out(self, entry: Entry) -> None:
        """Book a send whose answer did not come in time."""
        for tally in self._tallies(entry):
            tally.timed_out += 1

    def ended(self, entry: Entry, now_ns: int, *, good: bool) -> None:
        """Book the outcome of a request, and how long after it was due that came."""
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
        else:
            if window.bad is None:
                window.bad = LatencyHistogram()
            window.bad.record(latency_ns)
        self._routes[entry.route][1].record(latency_ns)
        self._recent.record(latency_ns)

    def abandoned(self, entry: Entry) -> None:
        """Book that the load was stopped before the request had an outcome."""
        entry.window.under_way -= 1
        for tally in self._tallies(entry):
            tally.abandoned += 1

    def close(self, now_ns: int) -> Iterator[Window]:
        """Yield the windows that are over by now and whose requests have all ended, in order.

        Everything that was due before `now_ns` must have been booked.
        """
        self._open_until(min(now_ns, self._end_ns))
        while self._open and not self._open[0].under_way and now_ns >= self._end_of(self._open[0].index):
            yield self._closed(self._open.popleft())

    def close_all(self, now_ns: int) -> Iterator[Window]:
        """Yield what is left, up to now: for the end of a load, when nothing is under way."""
        self._end_ns = min(self._end_ns, max(now_ns, 0))
        self._open_until(self._end_ns)
        while self._open:
            yield self._closed(self._open.popleft())

    def recent(self) -> LatencyHistogram:
        """Return the latencies since this was asked last."""
        found, self._recent = self._recent, LatencyHistogram()
        return found

    def so_far(self) -> Counts:
        """Return the counts of the load, without the warm-up."""
        return self._so_far.counts()

    def warmup(self) -> Counts:
        """Return the counts of the warm-up."""
        return self._warmup.tally.counts()

    def latency(self) -> tuple[Latency, Latency]:
        """Return the latencies of all requests in the windows closed so far, and of the good ones."""
        return summarize(self._all), summarize(self._good)

    def routes(self) -> tuple[RouteResult, ...]:
        """Return what became of each route."""
        return tuple(
            RouteResult(name=name, counts=tally.counts(), latency=summarize(histogram))
            for name, (tally, histogram) in zip(self._names, self._routes, strict=True)
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
        """Open the windows up to a time, also those in which nothing is due: silence is a figure too."""
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


def summarize(histogram: LatencyHistogram) -> Latency:
    """Return the figures of a histogram, and the histogram itself."""
    p50, p90, p95, p99, p999 = histogram.quantiles_ms(_SHARES)
    return Latency(
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
