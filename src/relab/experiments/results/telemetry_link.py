"""Send trials to telemetry as agent runs, in the background, so that trials rarely wait for the database."""

from __future__ import annotations

import functools
import itertools
import threading
from collections import deque
from collections.abc import Iterable, Mapping
from concurrent.futures import Future
from typing import TYPE_CHECKING, Any, Final

import pydantic_core

from relab.core.clock import parse_time
from relab.core.errors import RelabError
from relab.core.logging import get_logger
from relab.experiments.config.models import ExperimentConfig, IntegrationLevel
from relab.experiments.models import TrialRow
from relab.experiments.trial.agent_run import agent_run_of
from relab.experiments.trial.context import RunContext
from relab.experiments.trial.events import read_events
from relab.experiments.trial.otlp_exports import Encoding, stored_exports
from relab.experiments.trial.rows import read_row
from relab.experiments.trial.trial_folder import EXPORTS, TrialFolder, trial_folder

if TYPE_CHECKING:
    from relab.telemetry.prices.models import PriceTable
    from relab.telemetry.service import TelemetryService

_MAX_PENDING: Final = 2_000
"""The largest number of agent runs that wait for their commit.

At this number the run's threads wait, too (backpressure).
"""
_GATHER_S = 0.25
"""How long to collect ended agent runs for one commit, in seconds; a commit waits for the disk whatever its size."""
_MAX_HELD: Final = 500
"""The largest number of agent runs that are collected for one commit, and of trials that one query checks."""

_log = get_logger(__name__)


class TelemetryLink:
    """Sends the agent runs and spans of trials to telemetry.

    If an agent run cannot be stored, the failure is counted, and the experiment's run continues. Several threads may
    send spans, but only one thread at a time may send agent runs.

    Args:
        telemetry: the telemetry service; with None nothing is sent.
    """

    def __init__(self, telemetry: TelemetryService | None) -> None:
        self._telemetry = telemetry
        self._held: list[bytes] = []
        self._holding = threading.Lock()
        self._is_held = threading.Event()
        self._is_closing = threading.Event()
        self._sender: threading.Thread | None = None
        self._pending: deque[Future[Any]] = deque()
        self._lock = threading.Lock()
        self.sent = 0
        self.failed = 0
        self.first_error: str | None = None

    def start(self) -> None:
        """Start the telemetry intake and the sender thread."""
        if self._telemetry is not None:
            self._telemetry.start_intake(lambda _weight, _seconds: None)
            self._sender = threading.Thread(target=self._send_at_times, name="telemetry-link")
            self._sender.start()

    def prices_for(self, config: ExperimentConfig) -> PriceTable | None:
        """Return the prices of models in telemetry, from which the cost of spans is computed.

        Return None without telemetry, or if the harness exports no OTLP spans.
        """
        if self._telemetry is None or config.runtime.harness.integration_level is not IntegrationLevel.OTEL:
            return None
        return self._telemetry.prices.usable()

    def send_run(self, run: dict[str, Any] | None) -> None:
        """Queue an agent run (JSON) to be stored in telemetry; do nothing for None."""
        if self._telemetry is None or run is None:
            return
        body = pydantic_core.to_json(run)
        with self._holding:
            self._held.append(body)
            count = len(self._held)
        self._is_held.set()
        if count >= _MAX_HELD:
            self._send()

    def send_missing(self, context: RunContext, rows: Iterable[Mapping[str, Any]]) -> None:
        """Queue the agent runs that telemetry lacks, because an earlier process of this run was killed or failed to send.

        Agent runs that a person has deleted are not sent again, unless their trial ran again since.

        The agent run of a trial that ran again replaces the one of the trial's earlier result. Each agent run is built
        from the files of its trial; its OTLP traces are named, but their spans are not sent again. At most `_MAX_HELD`
        rows are in memory at once.

        Args:
            context: the values that all trials of the run share.
            rows: the result rows of all finished trials, as JSON.
        """
        if self._telemetry is None:
            return
        # Trials that did not start have no agent run; results from the cache share the one of an earlier trial.
        sent = (row for row in rows if row["started_at"] is not None and row.get("cached_from") is None)
        while batch := list(itertools.islice(sent, _MAX_HELD)):
            try:
                starts = self._telemetry.stored.starts(row["agent_run_id"] for row in batch)
            except RelabError as error:
                # Not a query for each further batch: each could wait for the database until it times out.
                self._note(error, len(batch) + sum(1 for _ in sent))
                return
            for row in batch:
                if starts.get(row["agent_run_id"]) != parse_time(row["started_at"]):
                    self.send_run(_run_of(context, row))

    def send_spans(self, body: bytes, encoding: Encoding) -> None:
        """Store the body of an OTLP request durably before returning; do nothing without telemetry.

        `encoding` is the encoding of `body`.

        Raises:
            RelabError: the spans cannot be stored now.
        """
        if self._telemetry is not None:
            self._telemetry.submit_otlp("traces", lambda: body, encoding).result()

    def close(self) -> None:
        """Wait until every agent run has been stored or has failed."""
        if self._telemetry is None:
            return
        self._is_closing.set()
        self._is_held.set()
        if self._sender is not None:
            self._sender.join()
        self._send()
        self._telemetry.stop_intake()
        while self._pending:
            self._settle(self._pending.popleft())

    def _send_at_times(self) -> None:
        while not self._is_closing.is_set():
            self._is_held.wait()
            self._is_closing.wait(_GATHER_S)
            self._send()

    def _send(self) -> None:
        assert self._telemetry is not None
        with self._lock:
            self._is_held.clear()
            with self._holding:
                held, self._held = self._held, []
            for body in held:
                self._pending.append(self._telemetry.submit_run(functools.partial(bytes, body)))
            while self._pending and (self._pending[0].done() or len(self._pending) > _MAX_PENDING):
                self._settle(self._pending.popleft())

    def _settle(self, future: Future[Any]) -> None:
        try:
            future.result()
        except RelabError as error:
            self._note(error)
        else:
            self.sent += 1

    def _note(self, error: RelabError, count: int = 1) -> None:
        self.failed += count
        if self.first_error is None:
            self.first_error = str(error)
            _log.warning("agent_run_not_stored", error=str(error))


def _run_of(context: RunContext, document: Mapping[str, Any]) -> dict[str, Any]:
    """Return the agent run (JSON) of a finished trial, from its result row `document` and the files of the trial."""
    config = context.config
    row = read_row(document)
    [bindings] = [variant.bindings for variant in config.variants if variant.variant_id == row.variant_id]
    folder = trial_folder(context.run_dir, row.trial_id)
    path = folder.host_path(config.runtime.harness.events.path)
    events = read_events(path, row.ids, below=folder.root)
    return agent_run_of(
        row,
        experiment_id=config.experiment.id,
        bindings=bindings,
        events=events.events,
        trace_ids=_trace_ids(config, row, folder),
    )


def _trace_ids(config: ExperimentConfig, row: TrialRow, folder: TrialFolder) -> list[str]:
    """Return the ids of the traces that the harness sent in the last attempt of a trial."""
    if config.runtime.harness.integration_level is not IntegrationLevel.OTEL or row.started_at is None:
        return []
    from relab.experiments.trial.otlp_receiver import trace_ids_of  # noqa: PLC0415 loads what decodes spans

    # Earlier attempts have exported to the same folder.
    from_us = parse_time(row.started_at) if row.attempts > 1 else 0
    return trace_ids_of(stored_exports(folder.root / EXPORTS), from_us=from_us)
