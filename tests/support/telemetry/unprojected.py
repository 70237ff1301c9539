"""Traces whose newest spans are stored but not projected yet."""

from __future__ import annotations

from typing import Any

from opentelemetry.proto.trace.v1.trace_pb2 import Span
from sqlalchemy import text

from relab.bootstrap import Services
from support.otlp.traces import CHAT, Trace, encode

FIRST = 40
"""The number of spans in the first batch of a trace; each span is a step."""
BATCH = 20
"""The number of spans in the second batch."""


def chats(trace: Trace, first: int, count: int, **attributes: Any) -> list[Span]:
    return [
        trace.span(f"chat-{number}", "root", {**CHAT, **attributes}, start_ms=number, end_ms=number + 0.5)
        for number in range(first, first + count)
    ]


def send(services: Services, spans: list[Span]) -> None:
    assert services.telemetry.ingest_otlp("traces", encode(spans), "protobuf").rejected == 0


def waiting(services: Services) -> list[str]:
    """Return the ids of the runs that are marked as unprojected."""
    with services.database.read() as session:
        return list(session.execute(text("SELECT run_id FROM agent_runs WHERE mapper_version = 0")).scalars())


def projected_steps(services: Services, trace: Trace) -> int:
    """Return the number of steps at the last projection, which the API does not show if it is outdated."""
    with services.database.read() as session:
        found = session.execute(text("SELECT step_count FROM agent_runs WHERE run_id = :id"), {"id": trace.id})
        return int(found.scalar_one())


def grown(services: Services, name: str = "grown") -> Trace:
    """Store a projected trace with one more batch that is not projected yet."""
    trace = Trace(name)
    send(services, chats(trace, 0, FIRST))
    services.telemetry.projector.project()
    send(services, chats(trace, FIRST, BATCH))
    assert trace.id in waiting(services)
    assert projected_steps(services, trace) == FIRST
    return trace


def new(services: Services, name: str = "new") -> Trace:
    """Store a trace in two batches that are not projected yet."""
    trace = Trace(name)
    send(services, chats(trace, 0, FIRST))
    send(services, chats(trace, FIRST, BATCH))
    assert trace.id in waiting(services)
    return trace
