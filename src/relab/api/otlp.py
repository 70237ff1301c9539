"""The responses of OTLP: protobuf or JSON like the request, and errors as `google.rpc.Status`.

Source: https://opentelemetry.io/docs/specs/otlp/#otlphttp-response
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from fastapi import Request, Response

from relab.http.body import media_type
from relab.telemetry.models import TracesReceipt

# Protobuf is imported at the first request that needs it: a server without traces does without its 3 MB.
if TYPE_CHECKING:
    from google.protobuf.message import Message

TRACES_PATH = "/v1/traces"
PROTOBUF_TYPES = frozenset(("application/x-protobuf", "application/protobuf"))
JSON_TYPE = "application/json"

# The canonical codes of gRPC that say the same as these HTTP statuses.
_INVALID_ARGUMENT, _INTERNAL = 3, 13
_CODES = {401: 16, 403: 7, 404: 5, 408: 4, 413: 8, 429: 8, 500: _INTERNAL, 503: 14}


def export_response(request: Request, receipt: TracesReceipt) -> Response:
    """Return the answer to an export that was stored, wholly or in part."""
    from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceResponse

    message = ExportTraceServiceResponse()
    if receipt.rejected:
        message.partial_success.rejected_spans = receipt.rejected
        message.partial_success.error_message = receipt.reason
    return _encoded(request, message, 200, None)


def status_response(request: Request, status: int, detail: str, headers: dict[str, str] | None) -> Response:
    """Return the answer to an export that failed as a whole."""
    from google.rpc.status_pb2 import Status

    code = _CODES.get(status, _INVALID_ARGUMENT if status < 500 else _INTERNAL)
    # OTLP has no 422: what cannot be read is a bad request.
    return _encoded(request, Status(code=code, message=detail), 400 if status == 422 else status, headers)


def _encoded(request: Request, message: Message, status: int, headers: dict[str, str] | None) -> Response:
    given = media_type(request, default="")
    if given in PROTOBUF_TYPES:
        return Response(message.SerializeToString(), status, headers, given)
    from google.protobuf import json_format

    return Response(json_format.MessageToJson(message, indent=None), status, headers, JSON_TYPE)
