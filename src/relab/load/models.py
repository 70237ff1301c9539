"""What a load is asked to be, and what came of it. Times in the unit that a name ends in."""

from __future__ import annotations

from collections.abc import Callable
from enum import StrEnum
from typing import Annotated, Any, Literal, Self
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, JsonValue, model_validator

from relab.core.clock import Timestamp

MAX_RATE_PER_S = 1_000_000
MAX_DURATION_S = 30 * 86_400
MAX_OPEN_WINDOWS = 500
"""A window is kept until the last of its requests has ended, and takes 0.2 MB until then."""


class _Value(BaseModel):
    """A value that never changes and takes no unknown field."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Arrivals(StrEnum):
    """How requests follow each other: at even distances, or independently of each other."""

    CONSTANT = "constant"
    POISSON = "poisson"


class Stage(_Value):
    """A time with one rate, or with a rate that changes evenly to another."""

    duration_s: float = Field(gt=0, le=MAX_DURATION_S)
    rate_per_s: float = Field(ge=0, le=MAX_RATE_PER_S)
    to_rate_per_s: float | None = Field(default=None, ge=0, le=MAX_RATE_PER_S)


class IntegerValue(_Value):
    """A whole number; with `skew` above 0 the k-th lowest comes with weight 1/k^skew (Zipf), as popular pages do."""

    kind: Literal["integer"]
    low: int
    high: int
    skew: float = Field(default=0.0, ge=0, le=5)

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.low > self.high:
            raise ValueError("low must not be above high")
        if self.skew and self.high - self.low >= 1_000_000:
            raise ValueError("a skewed integer has at most 1,000,000 values")
        return self


class ChoiceValue(_Value):
    """One of a list, each with its weight (default: all alike)."""

    kind: Literal["choice"]
    of: tuple[str | int | float | bool, ...] = Field(min_length=1)
    weights: tuple[float, ...] | None = None

    @model_validator(mode="after")
    def _weighed(self) -> Self:
        if self.weights is not None:
            if len(self.weights) != len(self.of):
                raise ValueError("there must be one weight for each choice")
            if min(self.weights) < 0 or sum(self.weights) <= 0:
                raise ValueError("weights must not be negative, and not all 0")
        return self


class WordsValue(_Value):
    """So many words of a list, from `low` to `high`, with a space between them."""

    kind: Literal["words"]
    of: tuple[str, ...] = Field(min_length=1)
    low: int = Field(default=1, ge=1)
    high: int = Field(default=3, le=100)

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.low > self.high:
            raise ValueError("low must not be above high")
        return self


class UuidValue(_Value):
    """A UUID that comes once, the same in every load of the seed."""

    kind: Literal["uuid"]


class SequenceValue(_Value):
    """The number of the request in its load, from 0."""

    kind: Literal["sequence"]


ValueSource = Annotated[
    IntegerValue | ChoiceValue | WordsValue | UuidValue | SequenceValue, Field(discriminator="kind")
]


class RequestTemplate(_Value):
    """One kind of request. `{name}` in path, query, headers and body stands for a value of the mix.

    A body's text that is nothing but `{name}` keeps the value's type. A status from 400 counts as bad, unless it is
    in `expect`.
    """

    name: str = Field(min_length=1, max_length=100)
    weight: float = Field(default=1.0, gt=0)
    method: Literal["GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS"] = "GET"
    path: str = Field(pattern=r"^/")
    query: dict[str, str | int | float | bool] = {}
    headers: dict[str, str] = {}
    body: JsonValue = None
    expect: tuple[int, ...] = ()


class Mix(_Value):
    """Requests and how often each comes, and the values that fill them."""

    name: str = Field(default="mix", min_length=1, max_length=100)
    values: dict[str, ValueSource] = {}
    requests: tuple[RequestTemplate, ...] = Field(min_length=1)

    @model_validator(mode="after")
    def _distinct(self) -> Self:
        names = [request.name for request in self.requests]
        if len(set(names)) < len(names):
            raise ValueError("two requests have one name")
        return self


class LoadPlan(_Value):
    """A load. Equal plans send equal requests at equal distances.

    Attributes:
        url: scheme, host, port and a prefix of all paths.
        warmup_s: time before the first stage, at its first rate, that no figure counts.
        timeout_s: how long an answer is waited for, from its sending to its last byte.
        max_in_flight: requests without an outcome at one time; what is due beyond that is dropped, not delayed.
        connections: how many are open at most (None: as many as requests are in flight). With fewer than
            `max_in_flight`, requests wait for one, and their latency says so.
        keep_alive: use connections again; without, every send opens its own.
        retries: further sends of a request that got no answer, 429, or 500 and above. A request keeps its place in
            flight while it waits to be sent again.
        retry_delay_s: the distance to the send before; what an answer asks for (Retry-After) is not heeded.
        headers: sent with every request, before those of the mix.
        allow_remote: the target may be another machine.
    """

    url: str
    mix: Mix
    stages: tuple[Stage, ...] = Field(min_length=1)
    arrivals: Arrivals = Arrivals.CONSTANT
    seed: int = Field(default=1, ge=0)
    warmup_s: float = Field(default=0.0, ge=0, le=3_600)
    window_s: float = Field(default=1.0, ge=0.05, le=3_600)
    timeout_s: float = Field(default=10.0, gt=0, le=600)
    max_in_flight: int = Field(default=1_000, ge=1, le=50_000)
    connections: int | None = Field(default=None, ge=1, le=50_000)
    keep_alive: bool = True
    retries: int = Field(default=0, ge=0, le=1_000)
    retry_delay_s: float = Field(default=0.0, ge=0, le=600)
    headers: dict[str, str] = Field(default={}, repr=False)
    allow_remote: bool = False

    @model_validator(mode="after")
    def _possible(self) -> Self:
        parts = urlsplit(self.url)
        if parts.scheme not in {"http", "https"} or not parts.hostname:
            raise ValueError("url must be http://HOST[:PORT][/PREFIX] or https://…")
        if parts.query or parts.fragment or parts.username is not None:
            raise ValueError("url must have no query, no fragment and no user")
        _ = parts.port  # raises for a port that is none
        if all(stage.rate_per_s == 0 and not stage.to_rate_per_s for stage in self.stages):
            raise ValueError("some stage must have a rate above 0")
        if self.timeout_s > MAX_OPEN_WINDOWS * self.window_s:
            raise ValueError(f"timeout_s must not be longer than {MAX_OPEN_WINDOWS:,} windows")
        return self


class Counts(_Value):
    """What became of requests, and of the sends that they took.

    Of requests: `offered = dropped + good + bad + abandoned`. Of sends: `sent = offered - dropped + retries`, and
    `sent = completed + failed + timed_out` but for what was abandoned.

    Attributes:
        offered: requests that were due.
        dropped: due while `max_in_flight` others had no outcome; never sent.
        good: ended with an answer below 400, or with one that its template expects.
        bad: ended otherwise.
        abandoned: without an outcome when the load was stopped.
        sent: sends, retries among them.
        completed: sends that got a whole answer, whatever its status.
        failed: sends without a whole answer: refused, reset, broken.
        timed_out: sends whose answer did not come in time.
        statuses: completed sends by class, `2xx`.
        errors: failed sends by reason, `ECONNREFUSED`.
    """

    offered: int = 0
    dropped: int = 0
    good: int = 0
    bad: int = 0
    abandoned: int = 0
    sent: int = 0
    retries: int = 0
    completed: int = 0
    failed: int = 0
    timed_out: int = 0
    statuses: dict[str, int] = {}
    errors: dict[str, int] = {}

    @property
    def error_rate_pct(self) -> float | None:
        """Bad requests in percent of those that ended; None where none did."""
        ended = self.good + self.bad
        return 100.0 * self.bad / ended if ended else None


class Latency(_Value):
    """From when a request was due to its outcome, retries included; None where there was none.

    `histogram` is the whole of it: HdrHistogram V2, compressed, base64, in nanoseconds.
    """

    count: int
    min_ms: float | None
    mean_ms: float | None
    p50_ms: float | None
    p90_ms: float | None
    p95_ms: float | None
    p99_ms: float | None
    p999_ms: float | None
    max_ms: float | None
    histogram: str = Field(repr=False)


class Window(_Value):
    """The requests that were due in one part of the load, and what became of them, whenever it did.

    Attributes:
        start_s: after the start of the load (the warm-up is before it).
        latency: of all requests that ended, the bad ones too.
        good_latency: of the good ones alone.
    """

    index: int
    start_s: float
    end_s: float
    counts: Counts
    latency: Latency
    good_latency: Latency


class RouteResult(_Value):
    """One kind of request over the whole load."""

    name: str
    counts: Counts
    latency: Latency


class Progress(_Value):
    """How a load stands, for people who watch it. Unlike windows, it tells of what happened just now."""

    elapsed_s: float
    duration_s: float
    warming_up: bool
    in_flight: int
    counts: Counts
    """Of the load so far, without the warm-up."""
    ended_per_s: float
    p50_ms: float | None
    p99_ms: float | None
    """Of the requests that ended since the last progress."""


class Generator(_Value):
    """Whether the sender itself kept up: figures of a load are worth as much as these.

    Attributes:
        lag_p50_ms: how much after its time a request was handed to its connection. Latencies include it.
        rate_per_s: requests over the time from the first that was due to the last, as that took place.
        rate_error_pct: how far that is from the plan's.
        cpu_share: of one core.
    """

    lag_p50_ms: float | None
    lag_p99_ms: float | None
    lag_max_ms: float | None
    rate_per_s: float | None
    rate_error_pct: float | None
    cpu_share: float


class LoadResult(_Value):
    """A load that has ended.

    Attributes:
        started_at: when the first stage began.
        duration_s: from then until the last outcome.
        stopped: it was ended before its time; the figures are those until then.
        problems: what a reader must know before believing the figures.
    """

    started_at: Timestamp
    duration_s: float
    planned_s: float
    stopped: bool
    counts: Counts
    warmup: Counts
    latency: Latency
    good_latency: Latency
    routes: tuple[RouteResult, ...]
    windows: tuple[Window, ...]
    generator: Generator
    problems: tuple[str, ...]


OnWindow = Callable[[Window], None]
"""Takes each window, in order, when the last of its requests has ended."""

OnProgress = Callable[[Progress], None]


def load_plan_json(plan: LoadPlan) -> dict[str, Any]:
    """Return a plan as it may be printed: the values of headers, which may be secrets, are left out."""
    shown = plan.model_dump(mode="json")
    shown["headers"] = dict.fromkeys(plan.headers, "(hidden)")
    return shown
