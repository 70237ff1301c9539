"""The subject of a rollout: which flag is changed, how health and metric are read, and where the load comes from.

Without a subject, a plan is about a service with the endpoints of the testbed's shop at the plan's `base_url`.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import Field, JsonValue, model_validator

from relab.flags.models import FlagKey, VariantName
from relab.rollouts.plans.section import PlanSection
from relab.rollouts.plans.urls import HttpUrl, UrlPath

Pointer = Annotated[str, Field(pattern=r"^(?:/[^/]*)*$", max_length=500)]
"""A JSON pointer (RFC 6901); empty for the whole document."""
Headers = dict[
    Annotated[str, Field(pattern=r"^[!#$%&'*+.^_`|~0-9A-Za-z-]{1,200}$")],
    Annotated[str, Field(pattern=r"^[ -~]*$", max_length=4_000)],
]
"""HTTP headers, in ASCII; `${ROLLOUT_NAME}` in a value is replaced by that environment variable."""


class ServiceFlagsSubject(PlanSection):
    """The `{control, routing}` flags of a service, which are read and changed at two paths below the plan's `base_url`.

    `headers` are sent with each request. `${ROLLOUT_NAME}` in them is replaced by the environment variable of this
    name, which must begin with `ROLLOUT_`.
    """

    kind: Literal["service"] = "service"
    read_path: UrlPath = "/api/flags"
    write_path: UrlPath = "/ops/flags"
    headers: Headers = Field(default={}, repr=False)


class HttpFlagSubject(PlanSection):
    """Any flag that can be set and read over HTTP; its value is one JSON value.

    Attributes:
        url: the URL to which a change is sent. `$value` in it is replaced by the new value, if that is a text or a
            number.
        method: the HTTP method of a change.
        body: the body of a change. The text `$value` in it is replaced by the new value.
        read_url: the URL at which the flag is read; None for `url`.
        pointer: the position of the flag's value in the answer to a read, as a JSON pointer.
        version_pointer: the position of the flag's version in this answer; None without versions. A change then sends
            the version in an `If-Match` header.
        headers: sent with each request.
        a: the value of arm A; None for the value before the rollout.
        b: the value of arm B.
    """

    kind: Literal["http"]
    url: HttpUrl
    method: Literal["POST", "PUT", "PATCH"] = "PUT"
    body: JsonValue = "$value"
    read_url: HttpUrl | None = None
    pointer: Pointer = ""
    version_pointer: Pointer | None = None
    headers: Headers = Field(default={}, repr=False)
    a: JsonValue = None
    b: JsonValue


class ProductFlagSubject(PlanSection):
    """One of relab's own feature flags, with the key `key`; the service reads it through OpenFeature.

    `a` and `b` are the names of the variants that arm A and arm B get.
    """

    kind: Literal["product_flag"]
    key: FlagKey
    a: VariantName
    b: VariantName

    @model_validator(mode="after")
    def _differs(self) -> Self:
        if self.a == self.b:
            raise ValueError("the variants of both arms are the same")
        return self


class HealthSubject(PlanSection):
    """A health check by a GET of a URL; the status must be 2xx.

    Attributes:
        url: the URL of the check.
        pointer: the position, in the JSON answer, of a value that must equal `expected`; None if only the status
            decides.
        expected: the value that a healthy target returns.
        dependencies: the position, in the JSON answer, of an object that maps the name of each dependency to `{"ok":
            true or false}`; None if dependencies are not checked.
        headers: sent with the request.
    """

    url: HttpUrl
    pointer: Pointer | None = "/ok"
    expected: JsonValue = True
    dependencies: Pointer | None = None
    headers: Headers = Field(default={}, repr=False)


class JsonMetric(PlanSection):
    """A metric from a JSON endpoint; smaller is better.

    These texts in the URL are replaced for each window (the measurement of one arm): `$arm` by the arm's letter, such
    as `A`, or by the name of the arm's variant if the flag is one of relab's own; `$start` and `$end` by the window's
    limits, in seconds since 1970.

    Attributes:
        pointer: the position of the metric in the answer, as a JSON pointer.
        requests, errors: the positions, in the answer, of the numbers of requests and of failed requests in the window;
            None if these numbers are not read.
        headers: HTTP headers of each request.
    """

    kind: Literal["json"]
    url: HttpUrl
    pointer: Pointer
    requests: Pointer | None = None
    errors: Pointer | None = None
    headers: Headers = Field(default={}, repr=False)


class PrometheusMetric(PlanSection):
    """A metric from Prometheus; smaller is better.

    These texts in the queries are replaced for each window (the measurement of one arm): `$arm` by the arm's letter,
    such as `A`, or by the name of the arm's variant if the flag is one of relab's own; `$start` and `$end` by the
    window's limits, in seconds since 1970; `$window` by its duration, such as `5s` or `2500ms`. A query is evaluated at
    the window's end and must return one value.

    Attributes:
        url: the base URL of Prometheus.
        query: the query of the metric.
        requests, errors: the queries of the numbers of requests and of failed requests in the window; None if these
            numbers are not read.
        delay_s: time between the end of a window and the query, so that Prometheus has scraped the last values.
        headers: HTTP headers of each request to Prometheus.
    """

    kind: Literal["prometheus"]
    url: HttpUrl
    query: str = Field(min_length=1, max_length=10_000)
    requests: str | None = Field(default=None, min_length=1, max_length=10_000)
    errors: str | None = Field(default=None, min_length=1, max_length=10_000)
    delay_s: float = Field(default=0.0, ge=0, le=600)
    headers: Headers = Field(default={}, repr=False)


FlagSubject = Annotated[ServiceFlagsSubject | HttpFlagSubject | ProductFlagSubject, Field(discriminator="kind")]
MetricSubject = Annotated[JsonMetric | PrometheusMetric, Field(discriminator="kind")]


class Subject(PlanSection):
    """What a rollout changes and measures: the flag, the health check and the metric of the target.

    Attributes:
        flags: the flag that is changed.
        health: the health check. None for a check of `/api/lab/config` below `base_url` if `flags` are the flags of a
            service, and for no check otherwise.
        metric: the judged metric; None for the P95 that the load measures.
        live: whether to measure the service's own traffic instead of a load. Both arms are then served at the same
            time, each to a share of the traffic.
        allow_remote: whether the load may be sent to another machine.
    """

    flags: FlagSubject = ServiceFlagsSubject()
    health: HealthSubject | None = None
    metric: MetricSubject | None = None
    live: bool = False
    allow_remote: bool = False

    @model_validator(mode="before")
    @classmethod
    def _default_kind(cls, value: Any) -> Any:
        """Set `kind` to `service` in `flags` that name no `kind`."""
        if isinstance(value, dict) and isinstance(value.get("flags"), dict) and "kind" not in value["flags"]:
            return {**value, "flags": {"kind": "service", **value["flags"]}}
        return value

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        if not self.live:
            return self
        if self.flags.kind != "product_flag":
            raise ValueError("live traffic needs a flag with shares: flags.kind product_flag")
        if self.metric is None or self.metric.requests is None or self.metric.errors is None:
            raise ValueError("live traffic needs a metric with `requests` and `errors`")
        if "$arm" not in (self.metric.query if isinstance(self.metric, PrometheusMetric) else self.metric.url):
            raise ValueError("the metric of live traffic needs $arm, because both arms run at the same time")
        return self
