"""Read the notes (reports arranged for people) of stored analyses."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from relab.core.errors import NotFoundError
from relab.rca.clusters.reader import ClusterReader
from relab.rca.errors import NoReportError
from relab.rca.models import RcaRun
from relab.telemetry.service import TelemetryService

if TYPE_CHECKING:
    from relab.rca.notes.models import RunNote


class NoteReader:
    """Returns notes of stored analyses, as `RunNote`, as Markdown or as an HTML page.

    A note is the report of an analysis, arranged for people.

    Args:
        get: returns the analysis with a given id.
        telemetry: reads the stored runs.
        clusters: reads the clusters of failed runs that share a cause.
    """

    def __init__(self, get: Callable[[str], RcaRun], telemetry: TelemetryService, clusters: ClusterReader) -> None:
        self._get = get
        self._telemetry = telemetry
        self._clusters = clusters

    def of(self, rca_run_id: str) -> RunNote:
        """Return the report of an analysis, arranged for people.

        Raises:
            RcaRunNotFoundError: no analysis has this id.
            NoReportError: the analysis has no report: it is queued or running, or it failed.
        """
        from relab.rca.notes.composition import compose_note  # noqa: PLC0415 the analysis is loaded only where it is used

        found = self._get(rca_run_id)
        if found.report is None:
            raise NoReportError(f"The analysis {rca_run_id!r} has no report: its status is {found.status}.")
        try:
            run, content_hash = self._telemetry.load(found.run_id)
        except NotFoundError:
            # A job deletes the analyses of a deleted run; it has not run yet.
            return compose_note(rca_run_id, found.run_id, found.report, None)
        if content_hash != found.content_hash:
            return compose_note(rca_run_id, found.run_id, found.report, None)
        cluster = self._clusters.of_run(found.run_id)
        recurrence = cluster.sentence if cluster is not None and cluster.runs > 1 else None
        logs = self._telemetry.log_lines(found.run_id)
        return compose_note(rca_run_id, found.run_id, found.report, run, logs, recurrence=recurrence)

    def markdown(self, rca_run_id: str) -> str:
        """Return the note of an analysis as Markdown.

        Raises:
            RcaRunNotFoundError: no analysis has this id.
            NoReportError: the analysis has no report: it is queued or running, or it failed.
        """
        from relab.rca.notes.markdown import to_markdown  # noqa: PLC0415 loads slowly, and few make any

        return to_markdown(self.of(rca_run_id))

    def page(self, rca_run_id: str) -> str:
        """Return the note (the report, arranged for people) of an analysis as an HTML page that needs no network access.

        Raises:
            RcaRunNotFoundError: no analysis has this id.
            NoReportError: the analysis has no report: it is queued or running, or it failed.
        """
        from relab.rca.notes.page import render_note_page  # noqa: PLC0415 loads slowly, and few make any

        return render_note_page(self.of(rca_run_id))
