"""Recordings of a program's exported telemetry: one compressed file per case, without names of the machine."""

from __future__ import annotations

import gzip
import re
import socket
import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from google.protobuf.message import Message
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from rig.frameworks.catalogue import PROGRAMS, Framework
from rig.frameworks.receiver import Export

FIXTURES = Path(__file__).parents[2] / "tests" / "fixtures" / "frameworks"
SUFFIX = ".otlp.gz"

_MESSAGES: dict[str, type[Any]] = {
    "/v1/traces": ExportTraceServiceRequest,
    "/v1/logs": ExportLogsServiceRequest,
    "/v1/metrics": ExportMetricsServiceRequest,
}
_OWN_TO_MACHINE = {"process.pid": 1, "host.name": "host", "host.id": "host", "process.owner": "app"}
"""Resource attributes that identify the machine, with the neutral values that replace them."""


_ADDRESS = re.compile(r"(?<![0-9a-f])7[ef][0-9a-f]{10}\b")
"""The address of an object as Python prints it, with or without `0x`."""


class RecordingError(Exception):
    """A file is not a recording; the message names the file."""


def recording_path(framework: str, case: str) -> Path:
    """Return the path of the recording of a case; `framework` is the name of the framework's folder."""
    return FIXTURES / framework / f"{case}{SUFFIX}"


def write_recording(path: Path, exports: Iterable[Export]) -> None:
    """Write exports to a compressed file: for each a line with its HTTP path and length, then its body.

    The same exports give the same bytes.
    """
    content = b"".join(b"%s %d\n%s" % (export.path.encode(), len(export.body), export.body) for export in exports)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(gzip.compress(content, 9, mtime=0))


def read_recording(path: Path) -> list[Export]:
    """Return the exports of a recording.

    Raises:
        RecordingError: the file's content is not a recording.
    """
    rest = gzip.decompress(path.read_bytes())
    exports = []
    while rest:
        head, _, rest = rest.partition(b"\n")
        name, _, length = head.decode().partition(" ")
        if name not in _MESSAGES or not length.isdecimal() or len(rest) < int(length):
            raise RecordingError(f"{path} is not a recording: {head[:80]!r}")
        exports.append(Export(name, rest[: int(length)]))
        rest = rest[int(length) :]
    return exports


def message_of(export: Export) -> Any:
    """Return the decoded body of an export: a protobuf message of OTLP's collector service."""
    message = _MESSAGES[export.path]()
    message.ParseFromString(export.body)
    return message


def trace_ids(exports: Iterable[Export]) -> list[str]:
    """Return the trace ids of all exported spans, in hex, each once, in the order of their first span."""
    found = {
        span.trace_id.hex(): None
        for export in exports
        if export.path == "/v1/traces"
        for resource in message_of(export).resource_spans
        for scope in resource.scope_spans
        for span in scope.spans
    }
    return list(found)


def texts_of(message: Message) -> Iterator[str]:
    """Yield every string of a message, and every value of an attribute or metric that is a number, at any depth."""
    for field, value in message.ListFields():
        for item in value if field.is_repeated else [value]:
            if isinstance(item, Message):
                yield from texts_of(item)
            elif isinstance(item, str) or field.name in {"int_value", "double_value", "as_int", "as_double", "sum"}:
                yield str(item)


def without_machine(exports: Sequence[Export], framework: Framework, environments: Path) -> list[Export]:
    """Return the exports with neutral paths, host names, user names, process ids and addresses of objects in texts.

    Nothing else changes.

    Args:
        exports: the exports of a run.
        framework: the framework of the run.
        environments: the folder with the environments of all frameworks, whose path is replaced.
    """
    paths = {
        str(environments / framework.folder): "/app/env",
        str(PROGRAMS / framework.folder): "/app",
        str(PROGRAMS): "/app",
        sys.base_prefix: "/usr/local",
        socket.gethostname(): "host",
    }
    cleaned = []
    for export in exports:
        message = message_of(export)
        _replace(message, paths)
        for resource in (part.resource for part in message.ListFields()[0][1]):
            for attribute in resource.attributes:
                if attribute.key in _OWN_TO_MACHINE:
                    kind = attribute.value.WhichOneof("value")
                    setattr(attribute.value, kind, _OWN_TO_MACHINE[attribute.key])
        cleaned.append(Export(export.path, message.SerializeToString(deterministic=True)))
    return cleaned


def _replace(message: Message, texts: dict[str, str]) -> None:
    for field, value in message.ListFields():
        if field.message_type is not None:
            for item in value if field.is_repeated else [value]:
                _replace(item, texts)
        elif field.type == field.TYPE_STRING:
            if field.is_repeated:
                value[:] = [_replaced(item, texts) for item in value]
            else:
                setattr(message, field.name, _replaced(value, texts))


def _replaced(text: str, texts: dict[str, str]) -> str:
    for old, new in texts.items():
        text = text.replace(old, new)
    return _ADDRESS.sub("7f0000000000", text)
