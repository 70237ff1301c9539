"""What the nodes of the incident workflow have access to: polls, probes, action server, knowledge and incident log."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from typing import Any, ParamSpec, TypeVar

from relab.core.clock import Clock
from relab.incidents.actions.client import ActionsClient
from relab.incidents.actions.prediction_interval import prediction_interval_width, recovery_bound
from relab.incidents.actions.records import ActionStatus, RepairResult
from relab.incidents.actions.verification_models import HealthBounds
from relab.incidents.detection.baseline import Baseline, SignalBaseline
from relab.incidents.detection.detector import DetectionResult
from relab.incidents.detection.outages import OutageTracker
from relab.incidents.detection.settings import DetectionSettings
from relab.incidents.diagnosis.investigation import Investigator
from relab.incidents.diagnosis.model_investigation import InvestigationInput, ModelInvestigator
from relab.incidents.diagnosis.onset import ONSET, first_to_leave
from relab.incidents.diagnosis.settings import AskWhen
from relab.incidents.models import Snapshot
from relab.incidents.polling.feed import PollFeed
from relab.incidents.probes.catalogue import PROBES
from relab.incidents.probes.client import ProbeClient
from relab.incidents.response.model_calls import ModelCalls
from relab.incidents.settings import ResponderSettings
from relab.incidents.storage.log import IncidentLog
from relab.incidents.storage.models import Incident, Lease, NewEvent, Phase
from relab.knowledge.models import FactValue, Runbook
from relab.knowledge.service import KnowledgeService
from relab.llm import LlmGateway

Arguments = ParamSpec("Arguments")
Found = TypeVar("Found")

ERRORS = "errors.pct"
P95 = "latency.p95_ms"
RATE = "traffic.rps"
_MIN_RATE = 1.0


@dataclass
class PollState:
    """The state that the polling loop shares with the nodes of the incident workflow.

    Attributes:
        feed: the polls (the values that the target had at one time).
        baseline: the usual values of the target's signals.
        findings: the result of the detectors after the last poll.
        wrong_at_us: the time of the last poll with confirmed anomalies that open an incident; None if there was none.
        stale: the times (`at_us`) of polls with outdated measured values.
        outages: the anomalous signals of the open incident, with the times at which people were notified of them.
        lease: the lease of this process while it is the leader (the only process that polls the target); otherwise
            None.
    """

    feed: PollFeed
    baseline: Baseline
    findings: DetectionResult = field(default_factory=DetectionResult)
    wrong_at_us: int | None = None
    stale: set[int] = field(default_factory=set)
    lease: Lease | None = None
    outages: OutageTracker = field(default_factory=lambda: OutageTracker(DetectionSettings().poll_interval_s))

    async def begin_anew(self) -> None:
        """Delete the results of earlier polls; call this when this process becomes the leader again.

        The earlier results may be days old.
        """
        await self.feed.clear()
        self.findings, self.wrong_at_us = DetectionResult(), None
        self.stale.clear()
        self.outages.begin()


@dataclass(frozen=True)
class ResponseContext:
    """The services and settings that the nodes of the incident workflow use.

    Attributes:
        target: the name under which the incidents of the target are stored.
        watch: the state that the polling loop shares with the nodes.
        probes: the client that runs read-only probes of the target.
        actions: the client of the target's action server.
        knowledge: the runbooks and the past incidents.
        log: the store of incidents and their timelines.
        pause: a function that sleeps for a number of seconds.
        gateway: the language model that gives a second opinion; None: no model is used.
    """

    target: str
    watch: PollState
    probes: ProbeClient
    actions: ActionsClient
    knowledge: KnowledgeService
    log: IncidentLog
    clock: Clock
    settings: ResponderSettings
    pause: Callable[[float], Any] = asyncio.sleep
    gateway: LlmGateway | None = None

    async def blocking(
        self, work: Callable[Arguments, Found], *args: Arguments.args, **kwargs: Arguments.kwargs
    ) -> Found:
        """Run the blocking function `work`, such as a transaction, in a thread, and return its result."""
        return await asyncio.to_thread(work, *args, **kwargs)

    async def append_events(self, incident_id: str, phase: Phase, *events: NewEvent, **change: Any) -> Incident:
        """Set the phase of an incident, append events to its timeline, and return the changed incident.

        Args:
            incident_id: the id of the incident.
            phase: the current phase of the response.
            events: the events to append.
            change: further fields of the incident to set, by name, such as `status`.
        """
        return await self.blocking(
            self.log.update, incident_id, at_us=self.clock.now_us(), phase=phase, events=events, **change
        )

    def usual(self) -> dict[str, float]:
        """Return the medians of error share, P95 latency and request rate in the baseline, by signal.

        Signals whose median is not learnt yet are missing.
        """
        found = {name: self.watch.baseline.usual(name) for name in (ERRORS, P95, RATE)}
        return {name: usual.median for name, usual in found.items() if usual is not None}

    def bounds(self, before: Snapshot | None = None) -> HealthBounds:
        """Return the bounds of error share and P95 latency; polls within these bounds show that users are served well.

        The bounds are computed from the baseline with the settings of the detectors. While the baseline is uncertain,
        the bound of P95 is higher.

        Args:
            before: the poll before a repair, or at the beginning of the incident. If its P95 was too high, the bound of
                P95 is lowered, so that most of the excess must disappear. With None, the bound is not lowered.
        """
        settings: DetectionSettings = self.settings.detection
        errors, p95 = self.watch.baseline.usual(ERRORS), self.watch.baseline.usual(P95)
        rate = self.watch.baseline.usual(RATE)
        deviations = settings.level_shift_deviations
        errors = errors or SignalBaseline(0.0, 0.0, 0)
        most_errors = errors.upper_bound(deviations, settings.min_errors_increase_pct)
        most_p95 = settings.slow_response_ms
        if p95 is not None:
            narrow = p95.upper_bound(deviations, settings.min_latency_increase_ms, settings.min_latency_factor)
            verification = self.settings.verification
            overlap = verification.metrics_window_s / verification.poll_interval_s
            wide = p95.median + prediction_interval_width(p95, deviations, overlap)
            was = None if before is None else before.numbers.get(P95)
            # Latency above the operators' threshold is never usual, however uncertain the baseline is.
            most_p95 = recovery_bound(narrow, min(wide, max(narrow, settings.slow_response_ms)), was)
        return HealthBounds(most_errors, most_p95, needs_traffic=rate is None or rate.median >= _MIN_RATE)

    async def runbooks(self) -> tuple[Runbook, ...]:
        """Return the active runbooks.

        If the settings allow the use of past incidents, the result includes the runbooks that `learnt` returns.
        """
        found = (await self.blocking(self.knowledge.library)).runbooks
        return (*found, *await self.learnt()) if self.settings.use_incident_history else found

    async def learnt(self) -> tuple[Runbook, ...]:
        """Return the runbooks that were learnt from past incidents of this target.

        In each of these incidents, the cause had no runbook, and an action of a person repaired the target.
        """
        found = (await self.blocking(self.knowledge.library)).runbooks
        gives = {name: probe.facts for name, probe in PROBES.items()}
        return await self.blocking(self.knowledge.learnt, self.target, found, gives)

    async def mended(self, incident_id: str) -> set[str]:
        """Return the causes that actions of an incident have removed without making the service healthy.

        Actions that were rolled back do not count.
        """
        acts = await self.blocking(self.log.actions.of_incident, incident_id)
        return {
            act.cause for act in acts if act.effect is RepairResult.MITIGATED and act.status is ActionStatus.SUCCEEDED
        }

    async def investigator(
        self,
        incident_id: str,
        facts: Mapping[str, FactValue],
        *,
        mended: Collection[str] = (),
        asks_model: bool = True,
    ) -> Investigator:
        """Return an investigator for an incident: it runs probes, and ranks causes by the active runbooks.

        Similar past incidents raise the prior probabilities of their causes, if the settings allow this.

        Args:
            incident_id: the id of the incident, which does not count as a past incident.
            facts: the facts for the search of similar past incidents; empty: no past incident is used.
            mended: further causes that are known to be gone, besides those that the incident's actions have removed.
            asks_model: whether a language model may be used, if the settings allow it.
        """
        memory: dict[str, float] = {}
        templates = self.watch.feed.latest.templates if self.watch.feed.latest else {}
        if self.settings.use_incident_history and facts:
            memory = await self.blocking(self.knowledge.memory, facts, templates, leave_out=(incident_id,))
        books, usual, settings = await self.runbooks(), self.usual(), self.settings
        # Use the onset that was seen first: an action may change which signals leave their usual range first.
        onset = facts.get(ONSET) or first_to_leave(self.watch.feed.polls, self.watch.baseline.usual)
        gone = frozenset(mended) | await self.mended(incident_id)
        if self.gateway is None or settings.model.when is AskWhen.NEVER or not asks_model:
            return Investigator(
                self.probes.run,
                books,
                usual=usual,
                onset=onset,
                memory=memory,
                mended=gone,
                settings=settings.investigation,
            )
        return ModelInvestigator(
            self.probes.run,
            books,
            ModelCalls(self.gateway, self.log, self.clock, incident_id, settings.model),
            seen=InvestigationInput(usual, memory, templates, onset, gone),
            settings=settings.investigation,
            asking=settings.model,
        )
