"""Receive OTLP over gRPC: the export services of traces, logs and metrics, with the same results as OTLP over HTTP.

For clients, `Export` is a unary method: one request message, one response. The server handles the request as a stream
of one message, because a stream's handler starts before the message arrives. So the server can authorize the caller and
reserve capacity before it reads the message, as over HTTP. The bytes on the wire are the same for both kinds of method.
gRPC itself decompresses a message, and limits its size before and after the decompression.

Source: https://opentelemetry.io/docs/specs/otlp/#otlpgrpc
"""

from __future__ import annotations

import asyncio
import functools
import time
from collections.abc import AsyncGenerator, AsyncIterable, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any, Final
from urllib.parse import unquote

import grpc
from google.protobuf.duration_pb2 import Duration
from google.rpc.error_details_pb2 import RetryInfo
from google.rpc.status_pb2 import Status
from pydantic import SecretStr

from relab.access.models import Scope, Source
from relab.access.service import Credentials
from relab.api.otlp import SIGNALS, Signal, answer_of, status_of
from relab.bootstrap import Services
from relab.core.errors import MalformedBodyError, RelabError, UnavailableError
from relab.core.logging import get_logger
from relab.http.access import bearer_in
from relab.http.body import IngestGate
from relab.http.metrics import HttpMetrics
from relab.http.problems import describe_error

STOPS_WITHIN_S: Final = 5.0
MAX_CONNECTION_IDLE_MS: Final = 300_000
KEEPALIVE_MS: Final = 60_000
_CODES: Final = {code.value[0]: code for code in grpc.StatusCode}
_DETAILS_KEY: Final = "grpc-status-details-bin"

_log = get_logger("relab.api")

Method = Callable[[AsyncIterable[bytes], Any], Awaitable[bytes]]


@asynccontextmanager
async def serving(services: Services, gate: IngestGate, metrics: HttpMetrics) -> AsyncGenerator[int]:
    """Serve OTLP over gRPC while the `async with` block runs, on the host and port of `settings.grpc`; yield the port.

    Args:
        services: the services of the process.
        gate: limits the requests in progress, by their number and by the total size of their messages.
        metrics: counts the requests and the received items.

    Raises:
        UnavailableError: the port cannot be bound.
    """
    settings = services.settings
    server = grpc.aio.server(options=_options(services))
    exporter = _Exporter(services, gate, metrics)
    server.add_generic_rpc_handlers(tuple(_handler(exporter, signal) for signal in SIGNALS))
    host = f"[{settings.grpc.host}]" if ":" in settings.grpc.host else settings.grpc.host
    try:
        port = server.add_insecure_port(f"{host}:{settings.grpc.port}")
    except RuntimeError as error:
        raise UnavailableError(
            f"Cannot listen on {host} port {settings.grpc.port} for OTLP/gRPC.",
            remedy="Stop the program that uses the port, or set another RELAB_GRPC__PORT.",
        ) from error
    await server.start()
    _log.info("listening_grpc", address=f"{host}:{port}")
    try:
        yield port
    finally:
        await server.stop(STOPS_WITHIN_S)


def _options(services: Services) -> list[tuple[str, int]]:
    http = services.settings.http
    return [
        ("grpc.max_receive_message_length", int(http.max_body_mb * 1_048_576)),
        ("grpc.max_metadata_size", http.max_header_bytes),
        ("grpc.absolute_max_metadata_size", http.max_header_bytes),
        ("grpc.max_concurrent_streams", 2 * http.max_concurrent_ingests),
        ("grpc.max_allowed_incoming_connections", services.settings.grpc.max_connections),
        # A connection that says nothing gives its place back.
        ("grpc.server_handshake_timeout_ms", int(http.header_timeout_s * 1_000)),
        ("grpc.max_connection_idle_ms", MAX_CONNECTION_IDLE_MS),
        # Close connections whose other end has gone.
        ("grpc.keepalive_time_ms", KEEPALIVE_MS),
        # Otherwise two processes could listen on one port, and the kernel would choose between them.
        ("grpc.so_reuseport", 0),
    ]


def _handler(exporter: _Exporter, signal: Signal) -> grpc.GenericRpcHandler:
    method = grpc.stream_unary_rpc_method_handler(exporter.method(signal))
    service = f"opentelemetry.proto.{signal.package}.{signal.service}Service"
    return grpc.method_handlers_generic_handler(service, {"Export": method})


class _Exporter:
    """Implements the method `Export` of the three OTLP services (traces, logs and metrics) over gRPC."""

    def __init__(self, services: Services, gate: IngestGate, metrics: HttpMetrics) -> None:
        self._services = services
        self._gate = gate
        self._metrics = metrics

    def method(self, signal: Signal) -> Method:
        """Return the function that handles gRPC calls of `Export` for a signal (traces, logs or metrics).

        The function receives and returns serialized messages.
        """
        return functools.partial(self._serve, signal)

    async def _serve(self, signal: Signal, requests: AsyncIterable[bytes], context: Any) -> bytes:
        """Handle one gRPC call of `Export`: store the received data, and return the serialized response.

        The call is logged and counted. An error aborts the call with a gRPC status.

        Args:
            signal: the signal of the call: traces, logs or metrics.
            requests: yields the one message of the call, serialized.
            context: gRPC's object for the call, with the address and the metadata of the client.
        """
        started = time.perf_counter()
        source = self._services.access.source_of(_address_of(context.peer()), _texts(context.invocation_metadata()))
        status = Status()
        try:
            answer = await self._export(signal, requests, context, source)
        except RelabError as error:
            http_status, detail, retry_after_s = describe_error(error)
            status = _error(http_status, detail, retry_after_s)
        except TimeoutError:
            seconds = self._services.settings.http.body_timeout_s
            status = status_of(408, f"The message did not arrive within {seconds:g} s.")
        except Exception as error:  # noqa: BLE001 the caller gets an answer, and the log the reason
            _log.error("request_crashed", exc_info=error)
            status = status_of(500, "An internal error occurred; it is in the server's log.")
        code = _CODES[status.code]
        ms = round((time.perf_counter() - started) * 1_000, 1)
        _log.info("request", method="gRPC", path=signal.service, client=source.client, status=code.name, ms=ms)
        self._metrics.count_grpc(signal.name, code.name)
        if code is not grpc.StatusCode.OK:
            await context.abort(code, status.message, ((_DETAILS_KEY, status.SerializeToString()),))
        return answer

    async def _export(self, signal: Signal, requests: AsyncIterable[bytes], context: Any, source: Source) -> bytes:
        credentials = _credentials(dict(_texts(context.invocation_metadata())), source)
        await asyncio.to_thread(self._services.access.authorize, credentials, Scope.INGEST)
        async with self._gate.reserve() as reservation:
            async with asyncio.timeout(self._services.settings.http.body_timeout_s):
                body = await anext(aiter(requests), None)
            if body is None:
                raise MalformedBodyError("The request has no message.")
            reservation.add(len(body))
            receipt = await asyncio.wrap_future(
                self._services.telemetry.submit_otlp(signal.name, lambda: body, "protobuf")
            )
        self._metrics.count_otlp(signal.name, receipt)
        return answer_of(signal, receipt).SerializeToString()


def _error(http_status: int, detail: str, retry_after_s: int | None) -> Status:
    """Return the gRPC error for an HTTP status.

    Args:
        http_status: the HTTP status that OTLP over HTTP would return.
        detail: the error message.
        retry_after_s: after how many seconds the client may retry, sent as `RetryInfo`; None: no `RetryInfo` is sent.
    """
    status = status_of(http_status, detail)
    if retry_after_s is not None:
        status.details.add().Pack(RetryInfo(retry_delay=Duration(seconds=retry_after_s)))
    return status


def _credentials(metadata: dict[str, str], source: Source) -> Credentials:
    bearer, secret = bearer_in(metadata.get("authorization", "")), metadata.get("x-ingest-secret")
    return Credentials(
        bearer=SecretStr(bearer) if bearer is not None else None,
        ingest_secret=SecretStr(secret) if secret is not None else None,
        client_host=source.client,
        via=source.via,
        # The Host header is checked because of web pages in a browser of this machine, and browsers cannot speak gRPC.
        host="localhost",
    )


def _texts(metadata: Any) -> list[tuple[str, str]]:
    return [(key, value) for key, value in metadata or () if isinstance(value, str)]


def _address_of(peer: str) -> str | None:
    """Return the IP address of a client; None for a Unix socket.

    `peer` is the client as gRPC names it, such as `ipv4:127.0.0.1:4711` or `ipv6:%5B::1%5D:4711`.
    """
    kind, _, rest = unquote(peer).partition(":")
    if kind == "unix":
        return None
    return rest.rpartition(":")[0].strip("[]")
