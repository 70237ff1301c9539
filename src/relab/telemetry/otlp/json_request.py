"""Convert stored spans or log records back to an OTLP request in JSON.

If the request is ingested again, it gives the same spans or log records.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from relab.telemetry.otlp.json_encoding import LOGS, SPANS, JsonShape, log_to_json, span_to_json

Groups = Iterable[tuple[dict[str, Any], list[bytes]]]
"""For each origin (a resource and scope): its content as JSON, and its spans or log records as protobuf bytes."""


def request_to_json(groups: Groups) -> dict[str, Any]:
    """Return the JSON object of an `ExportTraceServiceRequest` with the spans of `groups`.

    A group is `(origin as a dictionary, spans as protobuf bytes)`. The origin is the resource and the scope of the
    spans.
    """
    return _request(groups, SPANS, span_to_json)


def logs_request_to_json(groups: Groups) -> dict[str, Any]:
    """Return the JSON object of an `ExportLogsServiceRequest` with the log records of `groups`.

    A group is `(origin as a dictionary, log records as protobuf bytes)`. The origin is the resource and the scope of
    the records.
    """
    return _request(groups, LOGS, log_to_json)


def _request(groups: Groups, shape: JsonShape, to_json: Callable[[bytes], dict[str, Any]]) -> dict[str, Any]:
    return {shape.groups[0]: [_group(origin, map(to_json, raw), shape) for origin, raw in groups]}


def _group(origin: dict[str, Any], items: Iterable[dict[str, Any]], shape: JsonShape) -> dict[str, Any]:
    scope = dict(origin["scope"])
    if "attributes" in scope:
        scope["attributes"] = _key_values(scope["attributes"])
    return {
        "resource": {"attributes": _key_values(origin["resource"])},
        shape.scopes[0]: [{"scope": scope, shape.items[0]: list(items), "schemaUrl": origin["schema_url"]}],
    }


def _key_values(attributes: dict[str, Any]) -> list[dict[str, Any]]:
    return [{"key": key, "value": _value(value)} for key, value in attributes.items()]


def _value(value: Any) -> dict[str, Any]:
    """Return a stored attribute value as the JSON of an OTLP `AnyValue`.

    Bytes and NaN are stored as text, so they become a `stringValue`.
    """
    if isinstance(value, bool):
        return {"boolValue": value}
    if isinstance(value, int):
        # Protobuf's JSON encodes 64-bit integers as text, because JavaScript cannot represent them.
        return {"intValue": str(value)}
    if isinstance(value, list):
        return {"arrayValue": {"values": [_value(item) for item in value]}}
    if isinstance(value, dict):
        return {"kvlistValue": {"values": _key_values(value)}}
    if value is None:
        return {}
    return {"stringValue" if isinstance(value, str) else "doubleValue": value}
