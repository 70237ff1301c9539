"""Read the metric that decides a rollout, from a JSON endpoint or from Prometheus.

Each read is for one arm (set of flags) and one window (the time span of one measurement).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Protocol
from urllib.parse import quote

from relab.core.json import JsonValue
from relab.rollouts.errors import ClockSkewError, SubjectError, TargetUnavailableError
from relab.rollouts.models import DataProblem
from relab.rollouts.plans.subject import JsonMetric, MetricSubject, PrometheusMetric
from relab.rollouts.targets.json_client import JsonAnswer, JsonClient, at_pointer, shown_url, with_environment
from relab.rollouts.targets.retries import RetryLog

_SHOWN: Final = 300
_MAX_SKEW: Final = 0.1
"""The maximum difference between the clocks of the source and of this machine, as a share of a window's length."""
_TIMES: Final = ("$start", "$end")
"""The beginnings of all placeholders for times."""


@dataclass(frozen=True, slots=True)
class MetricReading:
    """The metric and the numbers of requests and errors from one measurement of an arm (set of flags).

    A missing figure is None, never 0.
    """

    metric: float | None
    requests: int | None = None
    errors: int | None = None


class MetricSource(Protocol):
    """A source of the metric that decides a rollout.

    It reports the figures of one arm (set of flags) in one window of time.
    """

    @property
    def delay_s(self) -> float:
        """Seconds to wait after the end of a measurement before `read`, because the source has its figures late."""
        ...

    @property
    def absence(self) -> DataProblem:
        """The problem to report if `read` finds no value of the metric: the source, and what to check there."""
        ...

    def read(self, arm: str, started_at: int, ended_at: int) -> MetricReading:
        """Return the figures of an arm (set of flags) between `started_at` and `ended_at`, in microseconds since 1970.

        `arm` is the text for `$arm` in URLs and queries (`RolloutTarget.label_of`).

        Raises:
            TargetUnavailableError: the source does not answer, or its answer is not usable.
            ClockSkewError: the source's clock differs from this machine's clock by more than a tenth of the window.
            SubjectError: the query is wrong.
        """
        ...


class JsonMetricSource:
    """Reads the metric that decides a rollout from a JSON endpoint.

    Args:
        subject: the plan's section about the metric: the URL, the pointers to the numbers in the answer, and the
            headers.
        environment: the environment variables that the plan's HTTP headers may use.
        timeout_s: time limit of a request.
        retries: the log in which each repeated request is counted; None: repetitions are not counted.
    """

    def __init__(
        self,
        subject: JsonMetric,
        environment: Mapping[str, str],
        *,
        timeout_s: float,
        retries: RetryLog | None = None,
    ) -> None:
        self._subject = subject
        self._client = JsonClient(timeout_s, with_environment(subject.headers, environment), retries)

    @property
    def delay_s(self) -> float:
        """Seconds to wait after the end of a measurement before `read`, because the endpoint has its values late."""
        return self._subject.delay_s

    @property
    def absence(self) -> DataProblem:
        """The problem to report if `read` finds no value of the metric: the source, and what to check there."""
        return DataProblem(
            f"The metric has no value: {shown_url(self._subject.url)} has no number at {self._subject.pointer!r}.",
            "Check the answer there and `pointer` in `subject.metric`; a source that has its values late needs `delay_s`.",
        )

    def read(self, arm: str, started_at: int, ended_at: int) -> MetricReading:
        """Return the figures of an arm (set of flags) in a window (the time span of one measurement).

        `arm` is the text for `$arm` in the URL. `started_at` and `ended_at` are the limits of the window, in
        microseconds since 1970. A figure is None if the answer has no number at the figure's JSON pointer. A negative
        number of requests or errors is None, too.

        Raises:
            TargetUnavailableError: the endpoint does not answer, its status is not 2xx, or the body is not JSON.
            ClockSkewError: the endpoint's clock differs from this machine's clock by more than a tenth of the window.
                This is only checked if the URL contains a time of the window, such as `$start`.
        """
        url = self._subject.url
        answer = self._client.get(_filled(url, arm, started_at, ended_at, quoted=True))
        if any(name in url for name in _TIMES):
            _check_clock(url, answer, started_at, ended_at)
        document = answer.document
        return MetricReading(
            _number_at(document, self._subject.pointer),
            _count(_number_at(document, self._subject.requests)),
            _count(_number_at(document, self._subject.errors)),
        )


class PrometheusSource:
    """Reads the metric that decides a rollout from Prometheus.

    Args:
        subject: the plan's section about the metric: the base URL, the queries and the headers.
        environment: the environment variables that the plan's HTTP headers may use.
        timeout_s: time limit of a request.
        retries: the log in which each repeated request is counted; None: repetitions are not counted.
    """

    def __init__(
        self,
        subject: PrometheusMetric,
        environment: Mapping[str, str],
        *,
        timeout_s: float,
        retries: RetryLog | None = None,
    ) -> None:
        self._subject = subject
        self._client = JsonClient(timeout_s, with_environment(subject.headers, environment), retries)
        self._is_checked = False

    @property
    def delay_s(self) -> float:
        """Seconds to wait after the end of a measurement before `read`, because Prometheus scrapes at intervals."""
        return self._subject.delay_s

    @property
    def absence(self) -> DataProblem:
        """The problem to report if `read` finds no value of the metric: the source, and what to check there."""
        return DataProblem(
            f"The metric has no value: Prometheus returned no series or NaN for {self._subject.query[:_SHOWN]!r}.",
            "Check its names, and that two scrapes fall into each window.",
        )

    def read(self, arm: str, started_at: int, ended_at: int) -> MetricReading:
        """Return the values of the plan's queries for an arm (set of flags), evaluated at `ended_at`.

        A value is None if the plan has no query for it, or if its query returns no series, NaN or an infinite number.
        A negative number of requests or errors is None, too.

        Args:
            arm: the text that replaces `$arm` in the queries.
            started_at: start of the measurement, in microseconds since 1970; replaces `$start`, in seconds.
            ended_at: end of the measurement, in microseconds since 1970; replaces `$end`, in seconds. The time
                from start to end replaces `$window`, such as `30s`.

        Raises:
            TargetUnavailableError: Prometheus does not answer, or the answer is not in Prometheus's format.
            ClockSkewError: Prometheus's clock differs from this machine's clock by more than a tenth of the
                measurement's length.
            SubjectError: Prometheus rejects a query, or evaluates queries too early (`_check_evaluation`). Or the
                result of a query is neither a scalar nor an instant vector, or has several series.
        """
        if not self._is_checked:
            self._check_evaluation(started_at, ended_at)
            self._is_checked = True
        metric, requests, errors = (
            None if query is None else self._value(_filled(query, arm, started_at, ended_at), started_at, ended_at)
            for query in (self._subject.query, self._subject.requests, self._subject.errors)
        )
        return MetricReading(metric, _count(requests), _count(errors))

    def _check_evaluation(self, started_at: int, ended_at: int) -> None:
        """Check that the server evaluates queries at the end of the measurement, and not at an earlier time.

        Some servers with Prometheus's API, such as VictoriaMetrics, evaluate a query about the last seconds at an
        earlier time, at which other flags may have been in force. Their answers do not show this. `started_at` and
        `ended_at` are the limits of the measurement, in microseconds since 1970.

        Raises:
            SubjectError: the evaluation is too early by more than a tenth of the measurement's length.
        """
        try:
            evaluated_s = self._value("time()", started_at, ended_at)
        except SubjectError:
            # A server with another query language, such as Loki, has no `time()`.
            evaluated_s = None
        early_s = 0.0 if evaluated_s is None else ended_at / 1e6 - evaluated_s
        if early_s > _MAX_SKEW * (ended_at - started_at) / 1e6:
            raise SubjectError(
                f"{shown_url(self._subject.url)} evaluates queries {early_s:.1f} s before the requested time, so its figures "
                "are not those of the windows.",
                remedy=f"Set `delay_s` in `subject.metric` to {math.ceil(self.delay_s + early_s)} or more, or configure the "
                "server to evaluate queries at once (VictoriaMetrics: -search.latencyOffset).",
            )

    def _value(self, query: str, started_at: int, ended_at: int) -> float | None:
        url = f"{self._subject.url.rstrip('/')}/api/v1/query?query={quote(query, safe='')}&time={ended_at / 1e6:.3f}"
        answer = self._client.get_repeatedly(url)
        if answer.status in {400, 422}:
            message = answer.document.get("error") if isinstance(answer.document, dict) else None
            raise SubjectError(f"Prometheus rejects the query {query!r}: {str(message or answer.status)[:_SHOWN]}.")
        if not answer.is_success:
            raise TargetUnavailableError(f"Prometheus at {shown_url(self._subject.url)} answers {answer.problem()}.")
        _check_clock(self._subject.url, answer, started_at, ended_at)
        try:
            kind = at_pointer(answer.document, "/data/resultType")
            result = at_pointer(answer.document, "/data/result")
            if kind == "scalar":
                return _parsed(at_pointer(result, "/1"))
            if kind == "vector" and isinstance(result, list) and len(result) <= 1:
                return _parsed(at_pointer(result, "/0/value/1")) if result else None
        except LookupError as error:
            raise TargetUnavailableError(
                f"{shown_url(self._subject.url)} does not answer as Prometheus does."
            ) from error
        if kind != "vector" or not isinstance(result, list):
            raise SubjectError(f"The query {query!r} returns a {kind}, not one value.")
        raise SubjectError(f"The query {query!r} returns {len(result)} series, not one.", remedy="Aggregate them.")


def metric_source(
    subject: MetricSubject, environment: Mapping[str, str], *, timeout_s: float, retries: RetryLog | None = None
) -> MetricSource:
    """Return the source that a plan's `metric` section describes; no request is sent yet.

    Args:
        subject: the section.
        environment: the environment variables that the plan's HTTP headers may use.
        timeout_s: time limit of a request.
        retries: the log in which each repeated request is counted; None: repetitions are not counted.

    Raises:
        SubjectError: a header needs an environment variable that is not set or not allowed.
    """
    match subject:
        case JsonMetric():
            return JsonMetricSource(subject, environment, timeout_s=timeout_s, retries=retries)
        case PrometheusMetric():
            return PrometheusSource(subject, environment, timeout_s=timeout_s, retries=retries)


def _check_clock(url: str, answer: JsonAnswer, started_at: int, ended_at: int) -> None:
    """Check that the clock of the metric's source shows the time of this machine.

    If the clocks differed, the source would return figures of another window, and perhaps of another arm. `started_at`
    and `ended_at` are the limits of the window, in microseconds since 1970.

    Raises:
        ClockSkewError: the clocks differ by more than a tenth of the window's length.
    """
    skew_s, window_s = answer.clock_skew_s, (ended_at - started_at) / 1e6
    if abs(skew_s) > _MAX_SKEW * window_s:
        raise ClockSkewError(
            f"The clock of {shown_url(url)} is {abs(skew_s):.0f} s {'ahead of' if skew_s > 0 else 'behind'} this machine's "
            f"clock, so its figures belong to other times than the windows of {window_s:g} s.",
            remedy="Synchronize both clocks (NTP), then repeat the rollout.",
        )


def _filled(template: str, arm: str, started_at: int, ended_at: int, *, quoted: bool = False) -> str:
    start_s, end_s = started_at / 1e6, ended_at / 1e6
    # A longer name comes before a name with which it begins. Whole numbers are rounded into the window.
    values = {
        "$arm": quote(arm, safe="") if quoted else arm,
        "$start_ms": str(math.ceil(started_at / 1_000)),
        "$end_ms": str(ended_at // 1_000),
        "$start_s": str(math.ceil(start_s)),
        "$end_s": str(ended_at // 1_000_000),
        "$start": f"{start_s:.3f}",
        "$end": f"{end_s:.3f}",
        "$window": _duration(started_at, ended_at),
    }
    for name, value in values.items():
        template = template.replace(name, value)
    return template


def _duration(started_at: int, ended_at: int) -> str:
    """Return the time from `started_at` to `ended_at`, to the millisecond, in Prometheus's format, such as `2500ms`."""
    milliseconds = max(round((ended_at - started_at) / 1_000), 1)
    return f"{milliseconds}ms" if milliseconds % 1_000 else f"{milliseconds // 1_000}s"


def _number_at(document: JsonValue, pointer: str | None) -> float | None:
    if pointer is None:
        return None
    try:
        return _parsed(at_pointer(document, pointer))
    except LookupError:
        return None


def _parsed(value: JsonValue) -> float | None:
    """Return a number, or a number as text, as a finite float; None for any other value."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    try:
        found = float(value)
    except ValueError:
        return None
    return found if math.isfinite(found) else None


def _count(value: float | None) -> int | None:
    return None if value is None or value < 0 else round(value)
