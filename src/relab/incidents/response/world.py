"""What the nodes of a graph have to do with: the target's polls and looks, the action server, what is known and written down."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ParamSpec, TypeVar

from relab.core.clock import Clock
from relab.incidents.acting.actions_client import ActionsClient
from relab.incidents.acting.bands import bounded_band, prediction_width
from relab.incidents.acting.records import ActStatus, Effect
from relab.incidents.acting.verification import Bounds
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
    """What the loop that polls knows; the nodes only read it.

    Attributes:
        findings: of the last poll.
        wrong_at_us: when a poll has shown last what opens incidents.
        stale: times (`at_us`) of polls whose figures were old.
        outages: what is wrong in the open incident, and what of it people were notified of.
        lease: by which this process runs the loop; None as long as it does not, or where there is no loop.
    """

    feed: Feed
    baseline: Baseline
    findings: Findings = field(default_factory=Findings)
    wrong_at_us: int | None = None
    stale: set[int] = field(default_factory=set)
    lease: Lease | None = None
    outages: Outages = field(default_factory=lambda: Outages(DetectionSettings().poll_interval_s))

    async def begin_anew(self) -> None:
        """Forget the polls of before: somebody else may have led for days since."""
        await self.feed.clear()
        self.findings, self.wrong_at_us = Findings(), None
        self.stale.clear()
        self.outages.begin()


@dataclass(frozen=True)
class World:
    """Everything outside of an incident's state.

    Attributes:
        target: the name that incidents of it are stored under.
        gateway: to the language model that is asked for a second opinion; None: there is none.
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
        """Do what blocks, such as a transaction, beside the event loop."""
        return await asyncio.to_thread(work, *args, **kwargs)

    async def tell(self, incident_id: str, phase: Phase, *events: NewEvent, **change: Any) -> Incident:
        """Write down how far an incident is, and what there is to tell of it."""
        return await self.blocking(
            self.log.update, incident_id, at_us=self.clock.now_us(), phase=phase, tell=events, **change
        )

    async def take(self, names: Sequence[str]) -> Looked:
        """Take looks."""
        return await self.looks.take(names)

    def usual(self) -> dict[str, float]:
        """Return the medians of what was learnt while all was well."""
        found = {name: self.watch.baseline.usual(name) for name in (ERRORS, P95, RATE)}
        return {name: usual.median for name, usual in found.items() if usual is not None}

    def bounds(self, before: Snapshot | None = None) -> Bounds:
        """Return up to what users are served well: what the detectors would not mind, and what the baseline leaves open.

        Args:
            before: the poll before a repair, or of the begin of the incident; most of what was too slow then must be gone.
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
            # What operators call slow is not as usual, however little is known of that.
            most_p95 = bounded_band(narrow, min(wide, max(narrow, settings.response_time_ms)), was)
        return Bounds(most_errors, most_p95, needs_traffic=rate is None or rate.median >= _LEAST_RATE)

    async def runbooks(self) -> tuple[Runbook, ...]:
        """Return the runbooks in use, and what people have done here about causes that none of them describes."""
        found = (await self.blocking(self.knowledge.library)).runbooks
        return (*found, *await self.learnt()) if self.settings.remembers else found

    async def learnt(self) -> tuple[Runbook, ...]:
        """Return what people have done here about unknown causes, as runbooks."""
        found = (await self.blocking(self.knowledge.library)).runbooks
        gives = {name: look.facts for name, look in LOOKS.items()}
        return await self.blocking(self.knowledge.learnt, self.target, found, gives)

    async def mended(self, incident_id: str) -> set[str]:
        """Return the causes that acts of an incident have ended, whether or not users are served well since."""
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
        """Return who investigates, with the runbooks in use and what is remembered of incidents that looked alike.

        Args:
            incident_id: that is not remembered yet, or was before a restart of ours.
            facts: by which the alike are found.
            mended: causes that are known to be gone, besides those that acts of the incident have ended.
            asks_model: whether a language model may be asked where the settings say so.
        """
        memory: dict[str, float] = {}
        templates = self.watch.feed.latest.templates if self.watch.feed.latest else {}
        if self.settings.remembers and facts:
            memory = await self.blocking(self.knowledge.memory, facts, templates, leave_out=(incident_id,))
        books, usual, settings = await self.runbooks(), self.usual(), self.settings
        # As it was at first: what an act has changed begins anew.
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
