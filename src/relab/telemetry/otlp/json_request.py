"""Convert stored spans back to an OTLP request in JSON; ingesting the request stores the same spans again."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from relab.telemetry.otlp.json_encoding import span_to_json


def request_to_json(groups: Iterable[tuple[dict[str, Any], list[bytes]]]) -> dict[str, Any]:
    """Return an `ExportTraceServiceRequest`.

    Args:
        groups: for each origin, the content of `span_origins.data` and the packed spans.
    """
    return {"resourceSpans": [_resource_spans(origin, spans) for origin, spans in groups]}


def _resource_spans(origin: dict[str, Any], spans: list[bytes]) -> dict[str, Any]:
    scope = dict(origin["scope"])
    if "attributes" in scope:
        scope["attributes"] = _key_values(scope["attributes"])
    return {
        "resource": {"attributes": _key_values(origin["resource"])},
        "scopeSpans": [
            {"scope": scope, "spans": [span_to_json(raw) for raw in spans], "schemaUrl": origin["schema_url"]}
        ],
    }


def _key_values(attributes: dict[str, Any]) -> list[dict[str, Any]]:
    return [{"key": key, "value": _value(value)} for key, value in attributes.items()]


def _value(value: Any) -> dict[str, Any]:
    """Return a value as OTLP `AnyValue` JSON; values stored as text, including bytes and NaN, remain text."""
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
