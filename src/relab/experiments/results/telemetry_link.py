"""Send trials to telemetry as agent runs, in the background, so that trials rarely wait for the database."""

from __future__ import annotations

import functools
import threading
from collections import deque
from collections.abc import Iterable, Mapping
from concurrent.futures import Future
from typing import TYPE_CHECKING, Any, Final

import pydantic_core

from relab.core.errors import NotFoundError, RelabError
from relab.core.logging import get_logger
from relab.experiments.config.models import ExperimentConfig, IntegrationLevel
from relab.experiments.trial.agent_run import agent_run_of
from relab.experiments.trial.context import RunContext
from relab.experiments.trial.events import read_events
from relab.experiments.trial.otlp_exports import Encoding
from relab.experiments.trial.rows import read_row
from relab.experiments.trial.trial_folder import trial_folder

if TYPE_CHECKING:
    from relab.telemetry.prices.models import PriceTable
    from relab.telemetry.service import TelemetryService

MAX_PENDING: Final = 2_000
"""The largest number of agent runs that wait for their commit.

At this number the run's threads wait, too (backpressure).
"""
_GATHER_S = 0.25
"""How long to collect ended agent runs for one commit, in seconds; a commit waits for the disk whatever its size."""
_MAX_PENDING = 500

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
        if count >= _MAX_PENDING:
            self._send()

    def send_missing(self, context: RunContext, rows: Iterable[Mapping[str, Any]]) -> None:
        """Queue the agent runs that an earlier, killed process of this run did not send to telemetry.

        Each agent run is built from the files of its trial, without OTLP traces.

        Args:
            context: the values that all trials of the run share.
            rows: the result rows of the trials that finished last, as JSON. The caller gives the last `MAX_PENDING`
                rows; the agent runs of earlier trials are assumed to be stored.
        """
        if self._telemetry is None:
            return
        variants = {variant.variant_id: variant for variant in context.config.variants}
        events_path = context.config.runtime.harness.events.path
        # The queue of the killed process had at most `MAX_PENDING` agent runs.
        for document in rows:
            try:
                # Skip trials that did not start, and results from the cache, which share the agent run of an earlier trial.
                if (
                    document["started_at"] is None
                    or document.get("cached_from") is not None
                    or self._is_stored(document["agent_run_id"])
                ):
                    continue
            except RelabError as error:
                self._note(error)
                continue
            row = read_row(document)
            folder = trial_folder(context.run_dir, row.trial_id)
            events = read_events(folder.host_path(events_path), row.ids, below=folder.root)
            bindings = variants[row.variant_id].bindings
            run = agent_run_of(row, experiment_id=context.config.experiment.id, bindings=bindings, events=events.events)
            self.send_run(run)

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

    def _is_stored(self, agent_run_id: str) -> bool:
        assert self._telemetry is not None
        try:
            self._telemetry.get(agent_run_id)
        except NotFoundError:
            return False
        return True

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
            while self._pending and (self._pending[0].done() or len(self._pending) > MAX_PENDING):
                self._settle(self._pending.popleft())

    def _settle(self, future: Future[Any]) -> None:
        try:
            future.result()
        except RelabError as error:
            self._note(error)
        else:
            self.sent += 1

    def _note(self, error: RelabError) -> None:
        self.failed += 1
        if self.first_error is None:
            self.first_error = str(error)
            _log.warning("agent_run_not_stored", error=str(error))
