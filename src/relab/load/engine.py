"""Send the requests of a load with aiohttp, each at its due time, even if earlier answers are slow (an open loop)."""

from __future__ import annotations

import asyncio
import errno
import time
from collections.abc import Iterator
from threading import Event

import aiohttp
from yarl import URL

from relab.load.alarm import make_alarm
from relab.load.arrivals import NS_PER_S, arrival_offsets_ns, duration_ns
from relab.load.errors import MixError
from relab.load.histogram import LatencyHistogram
from relab.load.mixes import LoadRequest, request_stream
from relab.load.models import LoadPlan, OnProgress, OnWindow, Progress, Stage, Window
from relab.load.recorder import Entry, LoadRecorder
from relab.load.stamping import StampedResponse, StampingConnector
from relab.load.target import PinnedResolver, Target

BATCH = 32
"""Maximum number of overdue requests that are started in one turn of the event loop, before it reads answers again."""
TICK_S = 0.05
IDLE_CONNECTION_S = 4.0
"""Servers close idle connections after 5 s or more; a request on a connection that is being closed would be lost."""
_LEAD_NS = 20_000_000
_RETRIED_STATUSES = frozenset({429})


class Engine:
    """Sends one load (the requests of a plan, each at its due time) and records the outcomes; `run` may be called once.

    Args:
        plan: the load.
        target: the target of the load, with its resolved addresses.
        on_window: is called with each time window when it is over and all its requests have an outcome. It runs in the
            event loop, so it must be fast.
        on_progress: is called with the progress every `window_s` seconds (a field of the plan), also in the event loop.
        stop: when this event is set, the engine abandons the requests in flight and ends the load.

    Raises:
        MixError: a request template of the mix is invalid, or uses a value that the mix does not define.

    Attributes:
        recorder: the counts and latencies so far.
        lag: the delays between the due times of requests and their starts.
        windows: the finished time windows.
        end_ns: the planned end of the load, in ns after its start.
        started_at_us: start of the first stage, in microseconds since 1970.
        elapsed_ns: actual duration of the load after its start; 0 until it has ended.
        stopped: whether the load was stopped early.
    """

    def __init__(
        self,
        plan: LoadPlan,
        target: Target,
        *,
        on_window: OnWindow | None = None,
        on_progress: OnProgress | None = None,
        stop: Event | None = None,
    ) -> None:
        self._plan = plan
        self._target = target
        self._on_window = on_window
        self._on_progress = on_progress
        self._stop = stop or Event()
        self._requests = request_stream(plan.mix, plan.seed)
        self._base = plan.url.rstrip("/")
        self._warmup_ns = int(plan.warmup_s * NS_PER_S)
        self.end_ns = duration_ns(plan.stages)
        self._offsets = self._due_times()
        self._expected = [frozenset(template.expect) for template in plan.mix.requests]
        self.recorder = LoadRecorder(
            [template.name for template in plan.mix.requests],
            window_ns=int(plan.window_s * NS_PER_S),
            end_ns=self.end_ns,
        )
        self.lag = LatencyHistogram()
        self.windows: list[Window] = []
        self.started_at_us = 0
        self.elapsed_ns = 0
        self.stopped = False
        self.first_ns: tuple[int, int] | None = None
        """(due time, actual start) of the first request of the load, in ns after the load's start; None before it."""
        self.last_ns = (0, 0)
        self._start_ns = 0
        self._next: tuple[int, LoadRequest] | None = None
        self._under_way: dict[asyncio.Task[None], Entry] = {}
        self._all_handed_over = asyncio.Event()
        self._idle = asyncio.Event()
        self._broken: BaseException | None = None

    async def run(self) -> None:
        """Send the load, and wait until it ends: each request has an outcome, or the event `stop` is set.

        Raises:
            MixError: the HTTP library rejects a request of the mix, for example because of an invalid header.
        """
        plan = self._plan
        connector = StampingConnector(
            limit=plan.connections or plan.max_in_flight,
            resolver=PinnedResolver(self._target),
            force_close=not plan.keep_alive,
            keepalive_timeout=IDLE_CONNECTION_S if plan.keep_alive else None,
        )
        # Answers are read completely and discarded; the session keeps no cookies and follows no redirects.
        async with aiohttp.ClientSession(
            connector=connector,
            headers=plan.headers,
            timeout=aiohttp.ClientTimeout(total=plan.timeout_s, ceil_threshold=float("inf")),
            cookie_jar=aiohttp.DummyCookieJar(),
            auto_decompress=False,
            response_class=StampedResponse,
        ) as session:
            # aiohttp would silently resend some requests after a lost connection, and these sends would not be counted.
            session._retry_connection = False  # noqa: SLF001 there is no public way
            self._session = session
            await self._send_all()

    async def _send_all(self) -> None:
        loop = asyncio.get_running_loop()
        now_ns, wall_ns = _both_clocks()
        self._start_ns = now_ns + _LEAD_NS + self._warmup_ns
        self.started_at_us = (wall_ns + _LEAD_NS + self._warmup_ns) // 1_000
        self._alarm = make_alarm(loop, self._guarded_hand_over)
        ticking = asyncio.create_task(self._tick())
        try:
            self._advance()
            self._guarded_hand_over()
            await self._until(self._all_handed_over, ticking)
            # A load lasts as long as its stages, even if no request is due at their end.
            while not self.stopped and self._now_ns() < self.end_ns:
                await asyncio.wait([ticking], timeout=min(TICK_S, (self.end_ns - self._now_ns()) / NS_PER_S + 0.001))
                self._raise_broken(ticking)
            if not self.stopped and self._under_way:
                await self._until(self._idle, ticking)
        finally:
            self._alarm.close()
            ticking.cancel()
            await asyncio.gather(ticking, return_exceptions=True)
            await self._abandon()
            self.elapsed_ns = max(self._now_ns(), 0)
            self._report_windows(self.recorder.close_all(self.elapsed_ns))

    async def _until(self, event: asyncio.Event, ticking: asyncio.Task[None]) -> None:
        waiting = asyncio.create_task(event.wait())
        try:
            await asyncio.wait([waiting, ticking], return_when=asyncio.FIRST_COMPLETED)
        finally:
            waiting.cancel()
        self._raise_broken(ticking)

    def _raise_broken(self, ticking: asyncio.Task[None]) -> None:
        """If the engine, a callback or the task `ticking` (it runs `_tick`) has failed, raise the error."""
        # Otherwise the error would only appear in the event loop's log.
        if self._broken is not None:
            raise self._broken
        if ticking.done():
            ticking.result()

    def _due_times(self) -> Iterator[int]:
        """Yield the due time of each request in ns after the start of the load; times in the warm-up are negative."""
        first = self._plan.stages[0]
        if self._warmup_ns:
            warmup = Stage(duration_s=self._plan.warmup_s, rate_per_s=first.rate_per_s)
            # A separate seed, so that the load is the same with and without a warm-up.
            for offset in arrival_offsets_ns([warmup], self._plan.arrivals, self._plan.seed + 1):
                yield offset - self._warmup_ns
        yield from arrival_offsets_ns(self._plan.stages, self._plan.arrivals, self._plan.seed)

    def _now_ns(self) -> int:
        return time.monotonic_ns() - self._start_ns

    def _advance(self) -> None:
        """Build the next request in advance, so that it can be sent without delay when it is due."""
        due_ns = next(self._offsets, None)
        self._next = None if due_ns is None else (due_ns, next(self._requests))

    def _guarded_hand_over(self) -> None:
        try:
            self._hand_over()
        except Exception as error:  # noqa: BLE001 `run` waits for this task, and raises it
            self._broken = error
            self._all_handed_over.set()

    def _hand_over(self) -> None:
        """Start the requests that are due, but no more than `BATCH`, and set the alarm for the next request."""
        for _ in range(BATCH):
            if self._next is None or self.stopped:
                self._all_handed_over.set()
                return
            due_ns, request = self._next
            now_ns = self._now_ns()
            if due_ns > now_ns:
                break
            self._begin(due_ns, now_ns, request)
            self._advance()
        # If this time is past, the alarm fires in the loop's next turn, which also reads the answers that have arrived.
        self._alarm.set(self._start_ns + (self._next[0] if self._next is not None else 0))

    def _begin(self, due_ns: int, now_ns: int, request: LoadRequest) -> None:
        entry = self.recorder.due(due_ns, request.route)
        if due_ns >= 0:
            if self.first_ns is None:
                self.first_ns = (due_ns, now_ns)
            self.last_ns = (due_ns, now_ns)
        if len(self._under_way) >= self._plan.max_in_flight:
            self.recorder.dropped(entry)
            return
        task = asyncio.create_task(self._request(entry, request))
        self._under_way[task] = entry
        self._idle.clear()
        task.add_done_callback(self._end)

    def _end(self, task: asyncio.Task[None]) -> None:
        entry = self._under_way.pop(task)
        if not self._under_way:
            self._idle.set()
        if task.cancelled():
            self.recorder.abandoned(entry)
        elif (error := task.exception()) is not None:
            self.recorder.abandoned(entry)
            self._broken = error
            self._all_handed_over.set()
            self._idle.set()

    async def _request(self, entry: Entry, request: LoadRequest) -> None:
        if entry.due_ns >= 0:
            self.lag.record(self._now_ns() - entry.due_ns)
        # The target is already encoded; parsing it again would be most of the cost of a URL.
        url = URL(self._base + request.target, encoded=True)
        good = await self._send(entry, request, url)
        for _ in range(self._plan.retries):
            if good is not None:
                break
            await asyncio.sleep(self._plan.retry_delay_s)
            good = await self._send(entry, request, url, again=True)
        arrived_ns = self._now_ns() if entry.arrived_ns is None else entry.arrived_ns - self._start_ns
        self.recorder.ended(entry, arrived_ns, good=bool(good))

    async def _send(self, entry: Entry, request: LoadRequest, url: URL, *, again: bool = False) -> bool | None:
        """Send a request once, and record the outcome of this send; `again` says whether it is a retry.

        Returns:
            True: the answer is good.
            False: the answer is bad, and a retry does not help.
            None: the request may be retried.
        """
        self.recorder.sent(entry, again=again)
        entry.arrived_ns = None
        try:
            async with self._session.request(
                request.method, url, data=request.body, headers=request.headers, allow_redirects=False
            ) as answer:
                status = answer.status
                await answer.read()
                assert isinstance(answer, StampedResponse)
                entry.arrived_ns = answer.arrived_ns
        except TimeoutError:
            self.recorder.timed_out(entry)
            return None
        except (aiohttp.ClientError, OSError) as error:
            self.recorder.failed(entry, reason_of(error))
            return None
        except ValueError as error:
            name = self._plan.mix.requests[request.route].name
            raise MixError(f"Request {name!r} cannot be sent: {error}.", remedy="Look at its headers.") from error
        self.recorder.answered(entry, status)
        if status < 400 or status in self._expected[entry.route]:
            return True
        return None if status >= 500 or status in _RETRIED_STATUSES else False

    async def _tick(self) -> None:
        """Every `TICK_S` seconds, check the stop signal and report finished time windows.

        The progress is reported every `window_s` seconds of the plan.
        """
        next_report_ns, reported_ns = self._now_ns() + int(self._plan.window_s * NS_PER_S), self._now_ns()
        while True:
            await asyncio.sleep(TICK_S)
            if self._stop.is_set():
                self.stopped = True
                self._all_handed_over.set()
                self._idle.set()
                return
            now_ns = self._now_ns()
            booked_ns = now_ns if self._next is None else min(now_ns, self._next[0])
            self._report_windows(self.recorder.close(booked_ns))
            if now_ns >= next_report_ns:
                self._progress(now_ns, (now_ns - reported_ns) / NS_PER_S)
                reported_ns, next_report_ns = now_ns, next_report_ns + int(self._plan.window_s * NS_PER_S)

    def _report_windows(self, windows: Iterator[Window]) -> None:
        for window in windows:
            self.windows.append(window)
            if self._on_window is not None:
                self._on_window(window)

    def _progress(self, now_ns: int, since_s: float) -> None:
        if self._on_progress is None:
            return
        recent = self.recorder.recent()
        p50_ms, p99_ms = recent.quantiles_ms((0.5, 0.99))
        self._on_progress(
            Progress(
                elapsed_s=max(now_ns, 0) / NS_PER_S,
                duration_s=self.end_ns / NS_PER_S,
                warming_up=now_ns < 0,
                in_flight=len(self._under_way),
                counts=self.recorder.so_far(),
                ended_per_s=recent.count / since_s,
                p50_ms=p50_ms,
                p99_ms=p99_ms,
            )
        )

    async def _abandon(self) -> None:
        tasks = list(self._under_way)
        for task in tasks:
            task.cancel()
        # `gather` returns after the callbacks that record the outcomes.
        await asyncio.gather(*tasks, return_exceptions=True)


def _both_clocks() -> tuple[int, int]:
    """Return the times of the monotonic clock and the wall clock at nearly the same moment, in ns.

    The function reads both clocks five times, and returns the pair of times that took the shortest time to read.
    """
    readings = [(time.monotonic_ns(), time.time_ns(), time.monotonic_ns()) for _ in range(5)]
    before_ns, wall_ns, after_ns = min(readings, key=lambda reading: reading[2] - reading[0])
    return (before_ns + after_ns) // 2, wall_ns


def reason_of(error: Exception) -> str:
    """Return the reason of a failed send as one word.

    If the operating system has a name for the error, the word is this name, such as `ECONNREFUSED`. Otherwise it is
    `disconnected`, `answer_cut_off`, `not_http` or the name of the exception's class.
    """
    number = error.errno if isinstance(error, OSError) else None
    if number is not None and number in errno.errorcode:
        return errno.errorcode[number]
    if isinstance(error, aiohttp.ServerDisconnectedError):
        return "disconnected"
    if isinstance(error, aiohttp.ClientPayloadError):
        return "answer_cut_off"
    if isinstance(error, aiohttp.ClientResponseError):
        return "not_http"
    return type(error).__name__
