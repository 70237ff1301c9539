"""Models of the plan and the results of a load. The suffix of a field's name is its unit, such as `_s` or `_ms`."""

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
"""Maximum number of time windows in memory; each takes 0.2 MB until the last of its requests has ended."""


class _Value(BaseModel):
    """The base class of the models of this module: they are immutable, and reject unknown fields."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Arrivals(StrEnum):
    """The arrival process of requests: at even intervals, or as a Poisson process."""

    CONSTANT = "constant"
    POISSON = "poisson"


class Stage(_Value):
    """A part of a load, in which the rate of requests is constant or changes linearly.

    Attributes:
        duration_s: the length of the stage, in seconds.
        rate_per_s: the rate at the beginning of the stage.
        to_rate_per_s: the rate at the end of the stage; None means that the rate is constant.
    """

    duration_s: float = Field(gt=0, le=MAX_DURATION_S)
    rate_per_s: float = Field(ge=0, le=MAX_RATE_PER_S)
    to_rate_per_s: float | None = Field(default=None, ge=0, le=MAX_RATE_PER_S)


class IntegerValue(_Value):
    """A placeholder's value: a random integer from `low` to `high`.

    With a `skew` of 0, all values are equally likely. Above 0, the k-th lowest value has weight 1/k^skew (Zipf's law).
    """

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
    """A placeholder's value: a random item of the list `of`, with weights (default: equal weights)."""

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
    """A placeholder's value: `low` to `high` random words from the list `of`, separated by spaces."""

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
    """A placeholder's value: a new random UUID for each request; equal plans have the same UUIDs."""

    kind: Literal["uuid"]


class SequenceValue(_Value):
    """A placeholder's value: the number of the request in its load, counted from 0 with the warm-up's first request."""

    kind: Literal["sequence"]


ValueSource = Annotated[
    IntegerValue | ChoiceValue | WordsValue | UuidValue | SequenceValue, Field(discriminator="kind")
]


class RequestTemplate(_Value):
    """One kind of request; a template with twice the `weight` of another is sent twice as often.

    - `{name}` in path, query, headers and body is a placeholder for a value of the mix.
    - In a JSON body, the string `{name}` alone keeps the type of its value: a number stays a number.
    - An answer with a status of 400 or more counts as bad, unless the status is in `expect`.
    """

    name: str = Field(min_length=1, max_length=100)
    weight: float = Field(default=1.0, gt=0)
    method: Literal["GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS"] = "GET"
    path: str = Field(pattern=r"^/")
    query: dict[str, str | int | float | bool] = {}
    headers: dict[str, str] = Field(default={}, repr=False)
    body: JsonValue = None
    expect: tuple[int, ...] = ()


class Mix(_Value):
    """What a load requests: weighted request templates (`requests`), and the values of their placeholders by name."""

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
    """The plan of a load; equal plans send the same requests at the same times after the start.

    Attributes:
        url: the base URL of the target: scheme, host, port, and a prefix of all paths.
        mix: the requests to send.
        stages: the stages of the load, in order, each with its rate of requests.
        arrivals: whether requests are due at even intervals or as a Poisson process.
        seed: the seed of all random choices.
        warmup_s: duration before the first stage, at its initial rate; the results do not include it.
        window_s: length of the time windows of the results.
        timeout_s: time limit of one send (a try of a request), until the last byte of the answer.
        max_in_flight: maximum number of requests without an outcome; further due requests are dropped.
        connections: maximum number of open connections; None means that `max_in_flight` is the maximum. Latencies
            include the wait for a connection.
        keep_alive: whether connections are reused; if False, every send opens a new one.
        retries: maximum number of retries of a request. A send is retried if it gets no answer, or status 429, or
            status 500 or above, unless the template expects this status.
        retry_delay_s: delay before a retry; the Retry-After header is ignored, and the request stays in flight.
        headers: sent with every request; headers of the mix override them.
        allow_remote: whether the target may be another machine.
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
        _ = parts.port  # raises for an invalid port
        if all(stage.rate_per_s == 0 and not stage.to_rate_per_s for stage in self.stages):
            raise ValueError("some stage must have a rate above 0")
        if self.timeout_s > MAX_OPEN_WINDOWS * self.window_s:
            raise ValueError(f"timeout_s must not be longer than {MAX_OPEN_WINDOWS:,} windows")
        return self


class Counts(_Value):
    """Counts of requests by outcome, and of sends by outcome. A send is one try of a request: its first, or a retry.

    Requests: `offered = dropped + good + bad + abandoned`. Sends: if no request was abandoned,
    `sent = offered - dropped + retries = completed + failed + timed_out`.

    Attributes:
        offered: requests that were due.
        dropped: requests that were never sent, because `max_in_flight` other requests were in flight.
        good: requests that ended with a status below 400, or with a status that their template expects.
        bad: all other requests that ended.
        abandoned: requests without an outcome when the load was stopped.
        sent: sends, including retries.
        retries: sends that were retries.
        completed: sends with a complete answer of any status.
        failed: sends without a complete answer, because the connection was refused, reset or broken.
        timed_out: sends that timed out.
        statuses: completed sends by status class, such as `2xx`.
        errors: failed sends by reason, such as `ECONNREFUSED`.
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
        """The share of bad requests among all requests that ended, in percent; None if no request ended.

        A request is good if it ended with a status below 400, or with a status that its template expects; else bad.
        """
        ended = self.good + self.bad
        return 100.0 * self.bad / ended if ended else None


class LatencySummary(_Value):
    """Latencies of requests from their due time to their outcome, including retries.

    `count` is the number of requests; if it is 0, all latencies are None. `p999_ms` is the 99.9th percentile.
    `histogram` is the distribution in nanoseconds, as a compressed HdrHistogram V2 in base64.
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
    """The requests that were due in one time window of the load, with their outcomes.

    An outcome counts in the window in which its request was due, even if the outcome came later.

    Attributes:
        index: number of the window, from 0.
        start_s, end_s: in seconds after the start of the load (the warm-up comes before the start).
        counts: counts of the window's requests.
        latency: latencies of all ended requests, good and bad.
        good_latency: latencies of the good requests only.
    """

    index: int
    start_s: float
    end_s: float
    counts: Counts
    latency: LatencySummary
    good_latency: LatencySummary


class RouteResult(_Value):
    """The results of one request template of the mix (`name` is its name), over the whole load.

    Attributes:
        latency: latencies of all ended requests, good and bad.
        counts: counts of the requests.
        good_latency: latencies of the good requests only.
    """

    name: str
    counts: Counts
    latency: LatencySummary
    good_latency: LatencySummary


class Progress(_Value):
    """The current state of a load, for display.

    Attributes:
        elapsed_s, duration_s: time since the start of the load, and its planned duration.
        warming_up: whether the warm-up has not ended.
        in_flight: number of requests without an outcome.
        counts: counts of the load so far, without the warm-up.
        ended_per_s: requests that ended per second since the last progress report, without those of the warm-up.
        p50_ms, p99_ms: percentiles of the latencies of these requests; None without requests.
    """

    elapsed_s: float
    duration_s: float
    warming_up: bool
    in_flight: int
    counts: Counts
    """Counts of the load so far, without the warm-up."""
    ended_per_s: float
    p50_ms: float | None
    p99_ms: float | None
    """Percentiles of the requests that ended since the last progress report."""


class Generator(_Value):
    """The accuracy of the load generator itself, which limits the accuracy of all other figures of a load.

    Attributes:
        lag_p50_ms: median delay between a request's due time and its start. Latencies include this delay.
        lag_p99_ms, lag_max_ms: 99th percentile and maximum of this delay.
        rate_per_s: the achieved rate, from the start of the first request to the start of the last one.
        rate_error_pct: deviation of the achieved rate from the planned rate, in percent; negative if it was lower.
        cpu_share: CPU time as a share of one core, 0..1.
    """

    lag_p50_ms: float | None
    lag_p99_ms: float | None
    lag_max_ms: float | None
    rate_per_s: float | None
    rate_error_pct: float | None
    cpu_share: float


class LoadResult(_Value):
    """The results of a load that has ended.

    Attributes:
        started_at: start of the first stage, in microseconds since 1970.
        duration_s: seconds from the start of the first stage until all stages are over and the last outcome is known.
        planned_s: planned duration of all stages.
        stopped: whether the load was stopped early; if so, all figures cover only the time until then.
        counts: counts of the whole load, without the warm-up.
        warmup: counts of the warm-up.
        latency: latencies of all ended requests, good and bad.
        good_latency: latencies of the good requests only.
        routes: results by request template.
        windows: results by time window.
        generator: the accuracy of the load generator.
        problems: warnings about the accuracy of the figures, one sentence each.

    A request is good if it ended with a status below 400, or with a status that its template expects.
    """

    started_at: Timestamp
    duration_s: float
    planned_s: float
    stopped: bool
    counts: Counts
    warmup: Counts
    latency: LatencySummary
    good_latency: LatencySummary
    routes: tuple[RouteResult, ...]
    windows: tuple[Window, ...]
    generator: Generator
    problems: tuple[str, ...]


OnWindow = Callable[[Window], None]
"""A function that is called with each time window, in order, when the last of its requests has ended."""

OnProgress = Callable[[Progress], None]
"""A function that is called regularly with the progress of a load."""


def load_plan_json(plan: LoadPlan) -> dict[str, Any]:
    """Return a plan as JSON for display; values of headers, which may be secrets, are replaced by `(hidden)`."""
    shown = plan.model_dump(mode="json")
    for part in (shown, *shown["mix"]["requests"]):
        part["headers"] = dict.fromkeys(part["headers"], "(hidden)")
    return shown
