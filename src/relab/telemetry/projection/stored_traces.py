"""Read the stored spans of traces, and compute (project) the runs from them; nothing is written.

Functions that take a session need the session of a transaction.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass

from relab.storage.planner import prefer_indexes
from relab.storage.session import DatabaseSession
from relab.telemetry import repository
from relab.telemetry.otlp.facts import SpanFacts, facts_of
from relab.telemetry.otlp.logs import with_events
from relab.telemetry.otlp.projection import project
from relab.telemetry.otlp.spans import read_spans
from relab.telemetry.received import span_repository
from relab.telemetry.received.log_store import load_events
from relab.telemetry.records import RunRecord
from relab.telemetry.tables import FormerRun, ItemKey, StoredItem


@dataclass(frozen=True, slots=True)
class UnprojectedTraces:
    """The stored data of unprojected runs.

    A run is unprojected if it is not computed from its newest spans yet.

    Attributes:
        former: `{run id: stored run}`, the runs as they were last computed.
        items: `{run id: {key of the item: timeline item}}`, the stored timelines.
        spans: `{run id: its decoded spans}`, with the span events that were received as log records.
    """

    former: dict[str, FormerRun]
    items: dict[str, dict[ItemKey, StoredItem]]
    spans: dict[str, list[SpanFacts]]


def read_unprojected(session: DatabaseSession, run_ids: Iterable[str]) -> UnprojectedTraces:
    """Read the data of those of `run_ids` that are unprojected (not computed from their newest spans yet)."""
    prefer_indexes(session)
    stored = repository.load_former_runs(session, run_ids)
    former = {run_id: run for run_id, run in stored.items() if run.is_unprojected}
    items = repository.load_items(session, [run_id for run_id, run in former.items() if run.is_counted])
    return UnprojectedTraces(former, items, _read_traces(session, former))


def project_traces(traces: UnprojectedTraces) -> dict[str, RunRecord]:
    """Compute the run of each trace from its spans; return `{run id: record}`."""
    return {trace_id: project(trace_id, spans) for trace_id, spans in traces.spans.items()}


def project_stored(session: DatabaseSession, trace_ids: Collection[str], over: Collection[str]) -> dict[str, RunRecord]:
    """Compute the run of each trace from the stored spans and log records; return `{trace id: record of its run}`.

    A run without an end is `incomplete` if its trace is in `over` (no more spans come), otherwise `running`.
    """
    if not trace_ids:
        return {}
    return {
        trace_id: project(trace_id, spans, is_over=trace_id in over)
        for trace_id, spans in _read_traces(session, trace_ids).items()
    }


def _read_traces(session: DatabaseSession, trace_ids: Collection[str]) -> dict[str, list[SpanFacts]]:
    """Return `{trace id: its decoded spans}`, with the span events that were received as log records."""
    resources = span_repository.load_resources(session, trace_ids)
    events = load_events(session, trace_ids)
    rows = span_repository.load_spans(session, trace_ids)
    found: dict[str, list[tuple[SpanFacts, bytes]]] = {}
    for (trace_id, _, origin, raw), span in zip(rows, read_spans([row.data for row in rows]), strict=True):
        found.setdefault(trace_id, []).append((facts_of(span, resources[trace_id, origin]), raw))
    return {trace_id: list(with_events(spans, events.get(trace_id, {}))) for trace_id, spans in found.items()}
