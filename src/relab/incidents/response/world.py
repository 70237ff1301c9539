"""The surroundings of the graph's nodes: polls and looks of the target, action server, knowledge and incident log."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ParamSpec, TypeVar

from relab.core.clock import Clock
from relab.incidents.acting.actions_client import ActionsClient
from relab.incidents.acting.bands import bounded_band, prediction_width
from relab.incidents.acting.courses import Bounds
from relab.incidents.acting.records import ActStatus, Effect
from relab.incidents.detection.baseline import Baseline
from relab.incidents.detection.detector import Findings
from relab.incidents.detection.outages import Outages
from relab.incidents.detection.settings import DetectionSettings
from relab.incidents.diagnosis.investigation import Investigator
from relab.incidents.diagnosis.modelled import AskWhen, ModelledInvestigator, Seen
from relab.incidents.diagnosis.onset import ONSET, first_to_leave
from relab.incidents.looks.catalogue import LOOKS
from relab.incidents.looks.client import LookClient
from relab.incidents.looks.models import Looked
from relab.incidents.models import Snapshot
from relab.incidents.response.model_calls import ModelCalls
from relab.incidents.settings import ResponderSettings
from relab.incidents.storage.log import IncidentLog
from relab.incidents.storage.models import Incident, Lease, NewEvent, Phase
from relab.incidents.watching.feed import Feed
from relab.knowledge.models import FactValue, Runbook
from relab.knowledge.service import KnowledgeService
from relab.llm import LlmGateway

Arguments = ParamSpec("Arguments")
Found = TypeVar("Found")

ERRORS = "errors.pct"
P95 = "latency.p95_ms"
RATE = "traffic.rps"
_LEAST_RATE = 1.0


@dataclass
class Watch:
    """The state that the polling loop shares with the nodes.

    Attributes:
        findings: the findings of the last poll.
        wrong_at_us: the time of the last poll whose findings open an incident.
        stale: the times (`at_us`) of polls whose figures were old.
        outages: the signals of the open incident, with the notifications of them.
        lease: the lease by which this process leads; None while it does not lead, or if there is no loop.
    """

    feed: Feed
    baseline: Baseline
    findings: Findings = field(default_factory=Findings)
    wrong_at_us: int | None = None
    stale: set[int] = field(default_factory=set)
    lease: Lease | None = None
    outages: Outages = field(default_factory=lambda: Outages(DetectionSettings().poll_interval_s))

    async def begin_anew(self) -> None:
        """Clear everything that earlier polls left here: another process may have led for days since."""
        await self.feed.clear()
        self.findings, self.wrong_at_us = Findings(), None
        self.stale.clear()
        self.outages.begin()


@dataclass(frozen=True)
class World:
    """Everything that the nodes use besides the state of the incident.

    Attributes:
        target: the name under which the incidents of the target are stored.
        gateway: the language model that gives a second opinion; None: no model is used.
    """

    target: str
    watch: Watch
    looks: LookClient
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
        """Run a blocking function, such as a transaction, in a thread, and return its result."""
        return await asyncio.to_thread(work, *args, **kwargs)

    async def tell(self, incident_id: str, phase: Phase, *events: NewEvent, **change: Any) -> Incident:
        """Store the phase of an incident, events for its timeline, and changes of its fields; return the incident."""
        return await self.blocking(
            self.log.update, incident_id, at_us=self.clock.now_us(), phase=phase, tell=events, **change
        )

    async def take(self, names: Sequence[str]) -> Looked:
        """Take the named looks at the target, and return what they show."""
        return await self.looks.take(names)

    def usual(self) -> dict[str, float]:
        """Return the baseline's medians of error share, P95 and request rate, by signal, as far as they are learnt."""
        found = {name: self.watch.baseline.usual(name) for name in (ERRORS, P95, RATE)}
        return {name: usual.median for name, usual in found.items() if usual is not None}

    def bounds(self, before: Snapshot | None = None) -> Bounds:
        """Return the bounds within which users are served well.

        The bounds follow the thresholds of the detectors; the bound of P95 is wider while the baseline is uncertain.

        Args:
            before: the poll before a repair, or at the begin of the incident; most of the excess latency in it must be gone.
        """
        settings: DetectionSettings = self.settings.detection
        errors, p95 = self.watch.baseline.usual(ERRORS), self.watch.baseline.usual(P95)
        rate = self.watch.baseline.usual(RATE)
        most_errors = settings.least_errors_pct + (errors.median if errors else 0.0)
        if errors is not None:
            most_errors = max(most_errors, errors.median + settings.deviations * errors.deviation)
        most_p95 = settings.response_time_ms
        if p95 is not None:
            shift = max(settings.deviations * p95.deviation, settings.least_latency_ms)
            narrow = max(p95.median + shift, p95.median * settings.latency_factor)
            verification = self.settings.verification
            overlap = verification.window_s / verification.poll_interval_s
            wide = p95.median + prediction_width(p95, settings.deviations, overlap)
            was = None if before is None else before.numbers.get(P95)
            # Latency above the operators' threshold is never usual, however uncertain the baseline is.
            most_p95 = bounded_band(narrow, min(wide, max(narrow, settings.response_time_ms)), was)
        return Bounds(most_errors, most_p95, needs_traffic=rate is None or rate.median >= _LEAST_RATE)

    async def runbooks(self) -> tuple[Runbook, ...]:
        """Return the runbooks in use, and, if the settings allow memory, those that `learnt` returns."""
        found = (await self.blocking(self.knowledge.library)).runbooks
        return (*found, *await self.learnt()) if self.settings.remembers else found

    async def learnt(self) -> tuple[Runbook, ...]:
        """Return runbooks made from the repairs of this target that people did for causes without a runbook."""
        found = (await self.blocking(self.knowledge.library)).runbooks
        gives = {name: look.facts for name, look in LOOKS.items()}
        return await self.blocking(self.knowledge.learnt, self.target, found, gives)

    async def mended(self, incident_id: str) -> set[str]:
        """Return the causes that acts of an incident have ended, although users may still be affected."""
        acts = await self.blocking(self.log.acts.of_incident, incident_id)
        return {act.cause for act in acts if act.effect is Effect.MITIGATED and act.status is ActStatus.SUCCEEDED}

    async def investigator(
        self,
        incident_id: str,
        facts: Mapping[str, FactValue],
        *,
        mended: Collection[str] = (),
        asks_model: bool = True,
    ) -> Investigator:
        """Return an investigator with the runbooks in use and the memory of similar past incidents.

        Args:
            incident_id: the incident; it is left out of the memory, in which it may be after a restart.
            facts: the facts by which similar incidents are found.
            mended: causes that are known to be gone, besides those that acts of the incident have ended.
            asks_model: whether a language model may be used, if the settings allow it.
        """
        memory: dict[str, float] = {}
        templates = self.watch.feed.latest.templates if self.watch.feed.latest else {}
        if self.settings.remembers and facts:
            memory = await self.blocking(self.knowledge.memory, facts, templates, leave_out=(incident_id,))
        books, usual, settings = await self.runbooks(), self.usual(), self.settings
        # Use the onset that was seen first: an act may change which signals leave their usual range first.
        onset = facts.get(ONSET) or first_to_leave(self.watch.feed.polls, self.watch.baseline.usual)
        gone = frozenset(mended) | await self.mended(incident_id)
        if self.gateway is None or settings.model.when is AskWhen.NEVER or not asks_model:
            return Investigator(
                self.take, books, usual=usual, onset=onset, memory=memory, mended=gone, settings=settings.investigation
            )
        return ModelledInvestigator(
            self.take,
            books,
            ModelCalls(self.gateway, self.log, self.clock, incident_id, settings.model),
            seen=Seen(usual, memory, templates, onset, gone),
            settings=settings.investigation,
            asking=settings.model,
        )
