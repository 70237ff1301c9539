"""OTLP over gRPC: the same store, limits, credentials and errors as over HTTP."""

from __future__ import annotations

import asyncio
import gzip
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import Any

import grpc
import pytest
from google.protobuf.message import Message
from google.rpc.error_details_pb2 import RetryInfo
from google.rpc.status_pb2 import Status
from opentelemetry.proto.collector.logs.v1.logs_service_pb2_grpc import LogsServiceStub
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2_grpc import MetricsServiceStub
from opentelemetry.proto.collector.trace.v1.trace_service_pb2_grpc import TraceServiceStub

from relab.access.models import Scope
from relab.api import otlp_grpc
from relab.bootstrap import Services
from relab.core.errors import UnavailableError
from relab.http.body import IngestGate
from relab.http.metrics import HttpMetrics
from support.otlp.logs import bodies, log, logs_request, metrics_request
from support.otlp.traces import CHAT, Trace, export_of

STUBS = {"traces": TraceServiceStub, "logs": LogsServiceStub, "metrics": MetricsServiceStub}
MB = 1_048_576


class Served:
    """A client of an OTLP/gRPC server that runs in this process."""

    def __init__(self, services: Services, gate: IngestGate, metrics: HttpMetrics, port: int) -> None:
        self.services = services
        self.gate = gate
        self.metrics = metrics
        self.port = port

    @asynccontextmanager
    async def channel(self) -> AsyncIterator[Any]:
        async with grpc.aio.insecure_channel(f"127.0.0.1:{self.port}") as channel:
            yield channel

    async def export(self, signal: str, request: Message, *, packed: bool = False, **metadata: str) -> Any:
        """Send an export and return its response."""
        async with self.channel() as channel:
            compression = grpc.Compression.Gzip if packed else grpc.Compression.NoCompression
            return await STUBS[signal](channel).Export(
                request, timeout=30, metadata=tuple(metadata.items()), compression=compression
            )

    async def refusal(self, signal: str, request: Message, **metadata: str) -> tuple[Any, Status]:
        """Send an export that must be rejected, and return the gRPC code and the status from its details."""
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await self.export(signal, request, **metadata)
        details = dict(caught.value.trailing_metadata()).get("grpc-status-details-bin", b"")
        return caught.value.code(), Status.FromString(details)


Scenario = Callable[[Served], Coroutine[Any, Any, None]]


def against(services: Services, scenario: Scenario) -> None:
    """Run the scenario against a server of these services, on a free port."""

    async def run() -> None:
        metrics, http = HttpMetrics(), services.settings.http
        gate = IngestGate(max_requests=http.max_concurrent_ingests, max_bytes=int(http.max_concurrent_ingest_mb * MB))
        services.telemetry.start_intake(metrics.observe_commit)
        try:
            async with otlp_grpc.serving(services, gate, metrics) as port:
                await scenario(Served(services, gate, metrics, port))
                assert gate.requests == 0
                assert gate.bytes == 0
        finally:
            services.telemetry.stop_intake()

    asyncio.run(run())


@pytest.fixture(params=["sqlite", "postgres"])
def served(request: pytest.FixtureRequest, make_services: Callable[..., Services]) -> Services:
    """Services with gRPC on a free port, on each database."""
    options: dict[str, Any] = {"grpc": {"port": 0}}
    if request.param == "postgres":
        options["database_url"] = request.getfixturevalue("migrated_postgres_url")
    return make_services(**options)


@pytest.fixture
def make_served(make_services: Callable[..., Services]) -> Callable[..., Services]:
    """Return a function that composes services with gRPC on a free port, on SQLite."""
    return lambda **options: make_services(grpc={"port": 0}, **options)


@pytest.mark.parametrize("packed", [False, True], ids=["plain", "gzip"])
def test_every_signal_is_received(served: Services, packed: bool) -> None:
    trace = Trace("grpc")

    async def scenario(server: Served) -> None:
        logs = logs_request([log(trace, "chat", "a line"), log(None, None, "no trace")])
        spans = await server.export("traces", export_of(trace.good()), packed=packed)
        records = await server.export("logs", logs, packed=packed)
        points = await server.export("metrics", metrics_request(2, 1), packed=packed)
        assert not spans.HasField("partial_success")
        assert records.partial_success.rejected_log_records == 0
        assert "1 log records have no trace id" in records.partial_success.error_message
        assert points.partial_success.rejected_data_points == 0
        assert "3 data points" in points.partial_success.error_message

    against(served, scenario)
    assert served.telemetry.get(trace.id).counts.steps == 1
    assert bodies(served.telemetry.logs(trace.id).items) == ["a line"]


def test_spans_that_cannot_be_stored_are_a_partial_success(served: Services) -> None:
    trace = Trace("grpc partial")
    bad = trace.span("bad")
    bad.span_id = b"short"

    async def scenario(server: Served) -> None:
        answer = await server.export("traces", export_of([*trace.good(), bad]))
        assert answer.partial_success.rejected_spans == 1
        assert "span_id" in answer.partial_success.error_message

    against(served, scenario)
    assert served.telemetry.get(trace.id).counts.steps == 1


def test_malformed_message_is_invalid_and_unknown_method_is_unimplemented(make_served: Callable[..., Services]) -> None:
    async def scenario(server: Served) -> None:
        async with server.channel() as channel:
            call = channel.unary_unary("/opentelemetry.proto.collector.trace.v1.TraceService/Export")
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await call(b"\xff\xfe", timeout=30)
            assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
            unknown = channel.unary_unary("/opentelemetry.proto.collector.trace.v1.TraceService/Other")
            with pytest.raises(grpc.aio.AioRpcError) as missing:
                await unknown(b"", timeout=30)
            assert missing.value.code() is grpc.StatusCode.UNIMPLEMENTED

    against(make_served(), scenario)


def test_the_ingest_secret_or_a_token_is_needed(make_served: Callable[..., Services]) -> None:
    services = make_served(app_ingest_secret="let me in")
    token = services.access.create_token("ci", [Scope.INGEST]).token
    reader = services.access.create_token("reader", [Scope.READ]).token
    request = export_of(Trace("grpc access").good())

    async def scenario(server: Served) -> None:
        for metadata, code in (
            ({}, grpc.StatusCode.UNAUTHENTICATED),
            ({"x-ingest-secret": "let me out"}, grpc.StatusCode.UNAUTHENTICATED),
            ({"authorization": "Bearer relab_x_y"}, grpc.StatusCode.UNAUTHENTICATED),
            ({"authorization": f"Bearer {reader}"}, grpc.StatusCode.PERMISSION_DENIED),
        ):
            found, status = await server.refusal("traces", request, **metadata)
            assert found is code
            assert status.code == code.value[0]
            assert "let me out" not in status.message
        await server.export("traces", request, **{"x-ingest-secret": "let me in"})
        await server.export("traces", request, authorization=f"Bearer {token}")

    against(services, scenario)


def test_a_request_through_a_proxy_does_not_count_as_local(make_served: Callable[..., Services]) -> None:
    async def scenario(server: Served) -> None:
        request = export_of(Trace("grpc proxy").good())
        code, status = await server.refusal("traces", request, **{"x-forwarded-for": "203.0.113.9"})
        assert code is grpc.StatusCode.PERMISSION_DENIED
        assert "proxy" in status.message

    against(make_served(), scenario)


def test_unauthorized_caller_is_rejected_before_its_message_arrives(make_served: Callable[..., Services]) -> None:
    services = make_served(app_ingest_secret="let me in", http={"max_body_mb": 64})

    async def scenario(server: Served) -> None:
        async def endless() -> AsyncIterator[bytes]:
            await asyncio.sleep(30)
            yield b""

        async with server.channel() as channel:
            call = channel.stream_unary("/opentelemetry.proto.collector.trace.v1.TraceService/Export")(endless())
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await call
            assert caught.value.code() is grpc.StatusCode.UNAUTHENTICATED

    against(services, scenario)


def retry_s(status: Status) -> int:
    """Return the seconds after which a rejected request may be repeated, from its RetryInfo."""
    [packed] = status.details
    info = RetryInfo()
    assert packed.Unpack(info)
    return int(info.retry_delay.seconds)


def test_request_beyond_the_limit_is_rejected_with_a_retry_time(make_served: Callable[..., Services]) -> None:
    services = make_served(http={"max_concurrent_ingests": 1})

    async def scenario(server: Served) -> None:
        request = export_of(Trace("grpc busy").good())
        async with server.gate.reserve():
            code, status = await server.refusal("traces", request)
            assert code is grpc.StatusCode.RESOURCE_EXHAUSTED
            assert retry_s(status) >= 1
        await server.export("traces", request)

    against(services, scenario)


def test_stopping_process_is_unavailable_and_sends_a_retry_time(
    make_served: Callable[..., Services],
) -> None:
    services = make_served()

    async def scenario(server: Served) -> None:
        services.telemetry.stop_intake()
        code, status = await server.refusal("traces", export_of(Trace("grpc away").good()))
        assert code is grpc.StatusCode.UNAVAILABLE
        assert retry_s(status) >= 1

    against(services, scenario)


@pytest.mark.parametrize("packed", [False, True], ids=["plain", "gzip"])
def test_a_message_over_the_limit_is_refused_packed_or_not(make_served: Callable[..., Services], packed: bool) -> None:
    services = make_served(http={"max_body_mb": 1})
    trace = Trace("grpc large")

    async def scenario(server: Served) -> None:
        spans = [*trace.good(), trace.span("pad", "root", CHAT | {"pad": "x" * 3 * MB})]
        assert len(gzip.compress(export_of(spans).SerializeToString())) < 10_000
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await server.export("traces", export_of(spans), packed=packed)
        assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        # Exporters do not repeat a request that was rejected without RetryInfo.
        assert "grpc-status-details-bin" not in dict(caught.value.trailing_metadata() or ())

    against(services, scenario)


def test_message_that_never_arrives_times_out_and_frees_its_slot(make_served: Callable[..., Services]) -> None:
    services = make_served(http={"max_concurrent_ingests": 1, "body_timeout_s": 0.05})

    async def scenario(server: Served) -> None:
        async def endless() -> AsyncIterator[bytes]:
            await asyncio.sleep(30)
            yield b""

        async with server.channel() as channel:
            for _ in range(3):
                call = channel.stream_unary("/opentelemetry.proto.collector.logs.v1.LogsService/Export")(endless())
                with pytest.raises(grpc.aio.AioRpcError) as caught:
                    await call
                assert caught.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED

    against(services, scenario)


def test_requests_are_counted_by_signal_and_code(make_served: Callable[..., Services]) -> None:
    async def scenario(server: Served) -> None:
        await server.export("metrics", metrics_request(3))
        await server.refusal("logs", logs_request([]), **{"x-forwarded-for": "203.0.113.9"})
        value = server.metrics.registry.get_sample_value
        assert value("relab_grpc_requests_total", {"signal": "metrics", "code": "OK"}) == 1
        assert value("relab_grpc_requests_total", {"signal": "logs", "code": "PERMISSION_DENIED"}) == 1
        assert value("relab_metric_data_points_total", {"outcome": "ignored"}) == 3

    against(make_served(), scenario)


def test_connections_beyond_the_limit_are_closed_and_silent_ones_time_out(
    make_services: Callable[..., Services],
) -> None:
    async def open_silent(server: Served) -> asyncio.StreamReader:
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        silent.append(writer)
        return reader

    silent: list[asyncio.StreamWriter] = []

    async def scenario(server: Served) -> None:
        kept = [await open_silent(server) for _ in range(2)]
        # gRPC sends a SETTINGS frame, with a header of 9 bytes, on a connection that it accepts.
        assert all([await reader.readexactly(9) for reader in kept])
        assert await (await open_silent(server)).read() == b""
        for reader in kept:
            await asyncio.wait_for(reader.read(), timeout=30)

        answer = await server.export("metrics", metrics_request(1))

        assert not answer.HasField("partial_success") or answer.partial_success.rejected_data_points == 0
        for writer in silent:
            writer.close()

    # The third connection is opened while the limit of the first two has not passed yet.
    against(make_services(grpc={"port": 0, "max_connections": 2}, http={"header_timeout_s": 2}), scenario)


def test_error_names_the_port_that_is_in_use(make_services: Callable[..., Services]) -> None:
    async def scenario(server: Served) -> None:
        second = make_services(grpc={"port": server.port})
        with pytest.raises(UnavailableError, match=str(server.port)):
            async with otlp_grpc.serving(second, server.gate, server.metrics):
                pass

    against(make_services(grpc={"port": 0}), scenario)
