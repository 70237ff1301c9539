"""Receive OTLP over HTTP: read requests in protobuf or JSON, store their data, and return the responses.

An error response is a `google.rpc.Status`. `otlp_grpc.py` does the same over gRPC.

Source: https://opentelemetry.io/docs/specs/otlp/#otlphttp-response
"""

from __future__ import annotations

import asyncio
import functools
import importlib
from typing import TYPE_CHECKING, Any, Final, Literal, NamedTuple

from fastapi import Request, Response

from relab.bootstrap import Services
from relab.core.errors import UnsupportedMediaError
from relab.http.body import declared_length, media_type, read_body
from relab.telemetry.otlp_models import OtlpReceipt

# Protobuf is imported at the first request that needs it: a server that gets no traces saves 3 MB.
if TYPE_CHECKING:
    from google.protobuf.message import Message
    from google.rpc.status_pb2 import Status

PROTOBUF_TYPES = frozenset(("application/x-protobuf", "application/protobuf"))
JSON_TYPE = "application/json"


class Signal(NamedTuple):
    """One signal of OTLP (traces, logs or metrics), with the path of its route and its names in protobuf.

    Attributes:
        name: `traces`, `logs` or `metrics`.
        path: the path of the route.
        service: the name of the signal in protobuf, for example `Trace` in `ExportTraceServiceRequest`.
        rejected_field: the field of `partial_success` with the number of rejected items.
    """

    name: Literal["traces", "logs", "metrics"]
    path: str
    service: str
    rejected_field: str

    @property
    def package(self) -> str:
        """The signal's protobuf package without the prefix `opentelemetry.proto.`, for example `collector.trace.v1`."""
        return f"collector.{self.service.lower()}.v1"

    def new_response(self) -> Any:
        """Return an empty response message of this signal, such as an `ExportTraceServiceResponse`."""
        name = f"opentelemetry.proto.{self.package}.{self.service.lower()}_service_pb2"
        return getattr(importlib.import_module(name), f"Export{self.service}ServiceResponse")()


TRACES: Final = Signal("traces", "/v1/traces", "Trace", "rejected_spans")
LOGS: Final = Signal("logs", "/v1/logs", "Logs", "rejected_log_records")
METRICS: Final = Signal("metrics", "/v1/metrics", "Metrics", "rejected_data_points")
SIGNALS: Final = (TRACES, LOGS, METRICS)
LANGFUSE_PATH: Final = "/api/public/otel/v1/traces"
"""The path that Langfuse's SDKs append to the address of their host to send traces."""

# The canonical codes of gRPC that say the same as these HTTP statuses.
_INVALID_ARGUMENT, _INTERNAL = 3, 13
_CODES = {401: 16, 403: 7, 404: 5, 408: 4, 413: 8, 429: 8, 500: _INTERNAL, 503: 14}
_CONTENT: Final[dict[str, Any]] = {
    "application/x-protobuf": {"schema": {"type": "string", "format": "binary"}},
    JSON_TYPE: {"schema": {"type": "object"}},
}


def documented_body(signal: Signal) -> dict[str, Any]:
    """Return the OpenAPI description of the request body of the route for `signal`: traces, logs or metrics."""
    description = f"An OTLP `Export{signal.service}ServiceRequest`; may be compressed with gzip, deflate or zstd."
    return {"requestBody": {"required": True, "description": description, "content": _CONTENT}}


def documented_responses(signal: Signal) -> dict[int | str, dict[str, Any]]:
    """Return the OpenAPI description, by HTTP status, of the responses of the route for `signal`.

    `signal` is traces, logs or metrics.
    """
    status = {"description": "`google.rpc.Status`, encoded like the request"}
    success = (
        f"`Export{signal.service}ServiceResponse`, encoded like the request; names what was rejected or not stored"
    )
    return {
        200: {"description": success, "content": _CONTENT},
        **dict.fromkeys((400, 401, 403, 408, 413, 415, 429, 503), status),
    }


async def receive(request: Request, services: Services, signal: Signal) -> Response:
    """Read the body of an OTLP request, store its spans or log records, and return the response.

    Data points of metrics are only counted, not stored. The metrics of this process count the received items.

    Args:
        request: the request.
        services: the services of the process.
        signal: the signal of the request: traces, logs or metrics.

    Raises:
        UnsupportedMediaError: the content type is neither protobuf nor JSON, or the compression is not in `DECODERS`.
        OverloadedError: the service is overloaded; nothing was stored.
        TooLargeError, MalformedBodyError: the body cannot be accepted; nothing was stored.
        UnavailableError: the database cannot be used, or this process is stopping; nothing was stored.
    """
    given = media_type(request, default="")
    if given not in PROTOBUF_TYPES and given != JSON_TYPE:
        raise UnsupportedMediaError(
            f"The content type {given[:100]!r} is not a content type of OTLP.",
            remedy="Send `Content-Type: application/x-protobuf` or `application/json`.",
        )
    max_bytes = int(services.settings.http.max_body_mb * 1_048_576)
    async with request.app.state.ingest_gate.reserve(declared_length(request)) as reservation:
        body = await read_body(request, reservation)
        receipt = await asyncio.wrap_future(
            services.telemetry.submit_otlp(
                signal.name, functools.partial(body.unpack, max_bytes), "json" if given == JSON_TYPE else "protobuf"
            )
        )
    request.app.state.metrics.count_otlp(signal.name, receipt)
    return _encoded(request, answer_of(signal, receipt), 200, None)


def answer_of(signal: Signal, receipt: OtlpReceipt) -> Message:
    """Return the OTLP response to an accepted request.

    If items were rejected or ignored, the response is a partial success with a message and the number of rejected
    items. Ignored items (read but not stored) are not in this number.

    Args:
        signal: the signal of the request.
        receipt: the numbers of accepted, rejected and ignored items.
    """
    answer = signal.new_response()
    if receipt.message:
        # Ignored items are not counted as rejected, so that exporters do not count them as lost.
        setattr(answer.partial_success, signal.rejected_field, receipt.rejected)
        answer.partial_success.error_message = receipt.message
    return answer  # type: ignore[no-any-return]


def status_of(http_status: int, detail: str) -> Status:
    """Return the OTLP error (a protobuf `Status`) for an HTTP status; its text is `detail`."""
    from google.rpc.status_pb2 import Status

    return Status(code=_CODES.get(http_status, _INVALID_ARGUMENT if http_status < 500 else _INTERNAL), message=detail)


def status_response(request: Request, status: int, detail: str, headers: dict[str, str] | None) -> Response:
    """Return the error response to a request that was rejected as a whole.

    Args:
        request: the request; the response has the same encoding (protobuf or JSON).
        status: the HTTP status; 422 becomes 400, because OTLP does not have 422.
        detail: the error message.
        headers: headers of the response; None for no further headers.
    """
    # OTLP has no 422: what cannot be read is a bad request.
    return _encoded(request, status_of(status, detail), 400 if status == 422 else status, headers)


def _encoded(request: Request, message: Message, status: int, headers: dict[str, str] | None) -> Response:
    given = media_type(request, default="")
    if given in PROTOBUF_TYPES:
        return Response(message.SerializeToString(), status, headers, given)
    from google.protobuf import json_format

    return Response(json_format.MessageToJson(message, indent=None), status, headers, JSON_TYPE)
