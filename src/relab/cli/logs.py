"""`lab agent-runs logs`: show the log records of a run."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from relab.cli.context import open_services
from relab.cli.output import JsonOption, plain, print_json, print_table

_NS_PER_US = 1_000
_COLUMNS = ("time", "severity", "span", "event", "text")


def logs(
    run_id: Annotated[str, typer.Argument(help="The run's id.")],
    limit: Annotated[int, typer.Option(min=1, max=100_000, help="Maximum number of log records.")] = 1_000,
    as_json: JsonOption = False,
) -> None:
    """Show the log records that arrived over OTLP for the run's trace, oldest first."""
    with open_services() as services:
        page = services.telemetry.logs(run_id, limit=limit)
    if as_json:
        print_json("agent-runs logs", **page.model_dump(mode="json"))
        return
    empty = f"No log records were received for {plain(run_id)}. Agents send them over OTLP (POST /v1/logs)."
    print_table(f"Logs of {plain(run_id)} ({len(page.items)})", _COLUMNS, map(_row, page.items), empty=empty)
    if page.next_cursor:
        print(f"The run has more log records. Show more with --limit {limit * 2}.")


def _row(record: dict[str, Any]) -> tuple[str | None, ...]:
    """Return the table row for a log record: time, severity, span id, event name and text; None for a missing value.

    `record` is the log record in OTLP's JSON encoding.
    """
    from relab.core.clock import LATEST_US, format_time

    time_us = int(record.get("timeUnixNano") or record.get("observedTimeUnixNano") or 0) // _NS_PER_US
    attributes = {pair.get("key"): _value(pair.get("value", {})) for pair in record.get("attributes", ())}
    severity = record.get("severityText") or record.get("severityNumber")
    text = _text(_value(record.get("body", {}))) or _text(attributes.get("exception.message"))
    return (
        format_time(min(time_us, LATEST_US - 1)) if time_us else None,
        str(severity) if severity else None,
        record.get("spanId"),
        record.get("eventName") or _text(attributes.get("event.name")),
        text,
    )


def _value(value: dict[str, Any]) -> Any:
    """Convert an `AnyValue` (OTLP's JSON encoding of a value) to a Python value."""
    if "arrayValue" in value:
        return [_value(item) for item in value["arrayValue"].get("values", ())]
    if "kvlistValue" in value:
        return {pair.get("key"): _value(pair.get("value", {})) for pair in value["kvlistValue"].get("values", ())}
    return next(iter(value.values()), None)


def _text(value: Any) -> str | None:
    from relab.core.json import canonical_json

    if value is None or isinstance(value, str):
        return value or None
    return canonical_json(value)
