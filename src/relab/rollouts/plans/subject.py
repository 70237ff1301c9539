"""The subject of a rollout: the flag to change, the health check, the metric, and the kind of traffic to measure.

If a plan has no section `subject`, the target is a service at `base_url` that has the endpoints of the testbed's shop.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import Field, JsonValue, ValidationInfo, model_validator

from relab.core.json import canonical_json
from relab.core.stored_documents import is_stored
from relab.flags.models import FlagKey, VariantName
from relab.rollouts.plans.section import PlanSection
from relab.rollouts.plans.urls import HttpUrl, UrlPath

Pointer = Annotated[str, Field(pattern=r"^(?:/[^/]*)*$", max_length=500)]
"""A JSON pointer (RFC 6901); empty for the whole document."""
HeaderName = Annotated[str, Field(pattern=r"^[!#$%&'*+.^_`|~0-9A-Za-z-]{1,200}$")]
Headers = dict[
    HeaderName,
    Annotated[str, Field(pattern=r"^[ -~]*$", max_length=4_000)],
]
"""HTTP headers, in ASCII; `${ROLLOUT_NAME}` in a value is replaced by that environment variable."""
Reads = Annotated[int, Field(ge=1, le=100)]
"""The number of GET requests for one read of flags."""


class ServiceFlagsSubject(PlanSection):
    """The flags of a service as one JSON object: `{control: fields of flow control, routing: fields of routing}`.

    Flow control limits the requests that the service handles at once; routing chooses the index that answers a search.

    Attributes:
        read_path, write_path: the paths, below the plan's `base_url`, at which the flags are read and changed.
        reads: the number of GET requests for one read of the flags; all answers must agree. The first read sends more
            requests, as `HttpFlagSubject.reads` describes. If the service lists its workers in the field `applied`,
            `reads` has no effect, and each read is a single request.
        headers: HTTP headers of each request. In a header, `${NAME}` is replaced by the environment variable `NAME`;
            the name must begin with `ROLLOUT_`.
    """

    kind: Literal["service"] = "service"
    read_path: UrlPath = "/api/flags"
    write_path: UrlPath = "/ops/flags"
    reads: Reads = 5
    headers: Headers = Field(default={}, repr=False)


class HttpFlagSubject(PlanSection):
    """A flag with one JSON value that is set and read over HTTP.

    Attributes:
        url: the URL to which a change is sent. The new value, as text or JSON, replaces `$value` in it.
        method: the HTTP method of a change.
        body: the body of a change, as JSON; the new value replaces each text in it that is exactly `$value`. None
            (`null` in a plan) for changes without a body.
        read_url: the URL at which the flag is read; None for `url`.
        pointer: the JSON pointer to the flag's value in the answer to a read.
        version_pointer: the JSON pointer to the flag's version in the answer to a read; None for a flag without
            versions. A change sends the version in an `If-Match` header.
        version_header: the HTTP header with the flag's version in the answer to a read, such as `ETag`; used instead of
            `version_pointer`.
        reads: the number of GET requests for one read of the flag, each over its own connection. All answers must
            agree. The first read sends eight times as many requests; so does a read if the answers to the previous
            read were different. With 1, each read is always a single request.
        headers: HTTP headers of each request.
        a: the old value (arm A); None for the value that the flag has before the rollout.
        b: the new value (arm B).
        sent_as: a map from each value of the flag, as JSON text, to the JSON value that is sent in its place, such as
            `{"true": "on", "false": "off"}`; None to send the flag's value itself.
    """

    kind: Literal["http"]
    url: HttpUrl
    method: Literal["POST", "PUT", "PATCH"] = "PUT"
    body: JsonValue = "$value"
    read_url: HttpUrl | None = None
    pointer: Pointer = ""
    version_pointer: Pointer | None = None
    version_header: HeaderName | None = None
    reads: Reads = 5
    headers: Headers = Field(default={}, repr=False)
    a: JsonValue = None
    b: JsonValue
    sent_as: dict[str, JsonValue] | None = None

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        if self.version_pointer is not None and self.version_header is not None:
            raise ValueError("version_pointer and version_header both name the version; give one of them")
        if self.a is not None:
            self.check_can_be_sent(self.a, "a")
        self.check_can_be_sent(self.b, "b")
        return self

    def check_can_be_sent(self, value: JsonValue, name: str) -> None:
        """Check that `sent_as`, if it is given, has an entry for the flag's value `value`.

        Raises:
            ValueError: there is no entry; the message contains `name`, the name of the value.
        """
        if self.sent_as is not None and canonical_json(value) not in self.sent_as:
            raise ValueError(f"sent_as has no entry for {canonical_json(value)}, the value of {name}")


class ProductFlagSubject(PlanSection):
    """One of relab's own feature flags, named by `key`.

    `a` is the name of the flag's old variant (arm A), `b` the name of its new variant (arm B).
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
    """A health check by a GET request, whose status must be 2xx.

    Attributes:
        url: the URL of the check.
        pointer: the JSON pointer to a value in the answer that must equal `expected`; None to check only the status.
        expected: the value of a healthy target.
        dependencies: the JSON pointer to `{name of a dependency: {"ok": true or false}}` in the answer; None to check
            no dependencies.
        headers: HTTP headers of the request.
    """

    url: HttpUrl
    pointer: Pointer | None = "/ok"
    expected: JsonValue = True
    dependencies: Pointer | None = None
    headers: Headers = Field(default={}, repr=False)


class JsonMetric(PlanSection):
    """A metric from a JSON endpoint; smaller is better.

    In the URL, `$start` and `$end` stand for the start and the end of the measurement, in seconds since 1970, with
    decimals. `$start_s` and `$end_s` are whole seconds, `$start_ms` and `$end_ms` whole milliseconds: the start is
    rounded up, the end down.

    `$arm` stands for the measured arm (set of flags): its letter, such as `A`, or, if the rollout changes one of
    relab's own flags, the name of the arm's variant.

    Attributes:
        pointer: the position of the metric in the answer, as a JSON pointer.
        requests, errors: the positions of the number of requests and of the number of failed requests in the answer, as
            JSON pointers; None: the number is not read.
        delay_s: seconds between the end of a measurement and the request, until the endpoint has the last values.
        headers: HTTP headers of each request.
    """

    kind: Literal["json"]
    url: HttpUrl
    pointer: Pointer
    requests: Pointer | None = None
    errors: Pointer | None = None
    delay_s: float = Field(default=0.0, ge=0, le=600)
    headers: Headers = Field(default={}, repr=False)

    @property
    def template(self) -> str:
        """The URL, in which `$arm` may stand for the measured arm (set of flags)."""
        return self.url


class PrometheusMetric(PlanSection):
    """A metric from Prometheus; smaller is better.

    Each query is evaluated at the end of a measurement and must return one value.

    In queries, `$start` and `$end` stand for the start and the end of the measurement, in seconds since 1970, and
    `$window` for its duration, such as `5s`. `$arm` stands for the measured arm (set of flags): its letter, such as
    `A`, or, if the rollout changes one of relab's own flags, the name of the arm's variant.

    Attributes:
        url: the base URL of Prometheus.
        query: the query of the metric.
        requests, errors: the queries of the number of requests and of the number of failed requests in the measured
            time; None: the number is not read.
        delay_s: seconds between the end of a measurement and the query, until Prometheus has scraped the last values.
        headers: HTTP headers of each request to Prometheus.
    """

    kind: Literal["prometheus"]
    url: HttpUrl
    query: str = Field(min_length=1, max_length=10_000)
    requests: str | None = Field(default=None, min_length=1, max_length=10_000)
    errors: str | None = Field(default=None, min_length=1, max_length=10_000)
    delay_s: float = Field(default=0.0, ge=0, le=600)
    headers: Headers = Field(default={}, repr=False)

    @property
    def template(self) -> str:
        """The query, in which `$arm` may stand for the measured arm (set of flags)."""
        return self.query


FlagSubject = Annotated[ServiceFlagsSubject | HttpFlagSubject | ProductFlagSubject, Field(discriminator="kind")]
MetricSubject = Annotated[JsonMetric | PrometheusMetric, Field(discriminator="kind")]


class Subject(PlanSection):
    """The thing that a rollout changes and measures: flag, health check and metric of the target.

    Attributes:
        flags: the flag that is changed.
        health: the health check. If it is None, the kind of `flags` decides: with `service`, `/api/lab/config` below
            `base_url` is checked; with the other kinds, no health check is made.
        metric: the metric that decides the rollout; None for the P95 latency of the load's requests.
        live: whether to measure the service's own traffic instead of a generated load. The old flags (arm A) and the
            new flags (arm B) then each get a share of the traffic at the same time.
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
        """Add `kind: service` to the field `flags` of the section, before validation, if `flags` has no `kind`."""
        if isinstance(value, dict) and isinstance(value.get("flags"), dict) and "kind" not in value["flags"]:
            return {**value, "flags": {"kind": "service", **value["flags"]}}
        return value

    @model_validator(mode="after")
    def _counts_have_an_effect(self, info: ValidationInfo) -> Self:
        # Earlier versions accepted these fields; their rollouts must stay readable.
        if self.live or self.metric is None or is_stored(info):
            return self
        given = [f"metric.{name}" for name in ("requests", "errors") if getattr(self.metric, name) is not None]
        if given:
            raise ValueError(
                f"{', '.join(given)}: no effect without `live: true`, because the load counts its own requests and errors"
            )
        return self

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        if not self.live:
            return self
        if self.flags.kind != "product_flag":
            raise ValueError("live traffic needs a flag with shares: flags.kind product_flag")
        if self.metric is None or self.metric.requests is None or self.metric.errors is None:
            raise ValueError("live traffic needs a metric with `requests` and `errors`")
        if "$arm" not in self.metric.template:
            raise ValueError("the metric of live traffic needs $arm, because both arms run at the same time")
        return self
