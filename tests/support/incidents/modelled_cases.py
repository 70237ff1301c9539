"""Incidents with ambiguous evidence, and models that give a second opinion."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from relab.core.clock import SystemClock
from relab.incidents.diagnosis.investigation import InvestigationResult
from relab.incidents.diagnosis.model_investigation import InvestigationInput, ModelInvestigator
from relab.incidents.diagnosis.settings import AskWhen, InvestigationSettings, ModelSettings
from relab.incidents.models import Severity, Snapshot
from relab.incidents.probes.catalogue import PROBES
from relab.incidents.probes.models import ProbeEvidence, ProbeResult
from relab.incidents.response.model_calls import ModelCalls
from relab.incidents.storage.log import IncidentLog
from relab.incidents.storage.models import TimelineEvent
from relab.knowledge.models import FactCondition, FactValue, Operator, Runbook
from relab.llm import LlmGateway, Prompt, Spent
from relab.llm.gateway import AnswerT, Billed
from relab.storage import Database
from support.incidents.probe_answers import facts_of
from support.incidents.runbooks import expects, runbook
from support.storage.migrated import migrate

_numbers = itertools.count(1)
WELL: Mapping[str, Mapping[str, FactValue]] = {name: facts_of(name) for name in PROBES}
DOUBT: Mapping[str, FactValue] = {"pool.fullest_pct": 92.0, "traffic.rps": 400.0}
"""Weak evidence of both a leak and a spike."""
SURE: Mapping[str, FactValue] = {"database.waits.lock": 3.0}


def at_least(fact: str, value: float) -> FactCondition:
    """Return a condition that a number is at least a value."""
    return FactCondition(fact, Operator.AT_LEAST, value)


BOOKS: tuple[Runbook, ...] = (
    runbook(
        "leak",
        expects=(expects("pool.fullest_pct", 90.0, 0.7, 0.3),),
        requires=(at_least("pool.fullest_pct", 80.0),),
        mended=(FactCondition("pool.fullest_pct", Operator.AT_MOST, 60.0),),
    ),
    runbook(
        "spike",
        expects=(expects("traffic.rps", 300.0, 0.6, 0.3),),
        mended=(FactCondition("traffic.rps", Operator.AT_MOST, 100.0),),
    ),
    runbook(
        "lock",
        expects=(expects("database.waits.lock", 1.0, 0.98, 0.002),),
        requires=(at_least("database.waits.lock", 1.0),),
        mended=(FactCondition("database.waits.lock", Operator.AT_MOST, 0.0),),
    ),
    runbook(
        "trifle",
        # No fact contradicts this cause, but its condition for a repaired service is already met.
        expects=(expects("cache.errors", 0.0, 0.9, 0.6, Operator.AT_MOST),),
        mended=(FactCondition("cache.errors", Operator.AT_MOST, 5.0),),
    ),
)


@dataclass
class Service:
    """Answers probes with the given facts and healthy values for all others; `verbatim` has quoted texts."""

    now: Mapping[str, FactValue]
    verbatim: Mapping[str, str] = field(default_factory=dict)
    taken: list[tuple[str, ...]] = field(default_factory=list)

    async def run(self, names: Sequence[str]) -> ProbeResult:
        """Run probes."""
        self.taken.append(tuple(names))
        facts: dict[str, FactValue] = {}
        for name in names:
            facts |= WELL[name]
            facts |= {fact: value for fact, value in self.now.items() if fact in PROBES[name].facts}
        evidence = tuple(
            ProbeEvidence(
                f"ev-{len(self.taken)}-{fact}", "look", "target GET /", f"/{fact}", fact, value,
                self.verbatim.get(fact, json.dumps(value)), len(self.taken),
            )
            for fact, value in facts.items()
        )  # fmt: skip
        return ProbeResult(facts, evidence)


@dataclass
class Case:
    """A stored incident, and the model that diagnoses it."""

    log: IncidentLog
    incident_id: str
    gateway: LlmGateway
    service: Service
    settings: ModelSettings
    books: Sequence[Runbook] = BOOKS

    def calls(self) -> ModelCalls:
        """Return a new caller of the model, as after a restart of the responder."""
        return ModelCalls(self.gateway, self.log, SystemClock(), self.incident_id, self.settings)

    async def investigate(self, templates: Mapping[str, int] | None = None) -> InvestigationResult:
        """Run the first probes and investigate from their results."""
        investigator = ModelInvestigator(
            self.service.run,
            self.books,
            self.calls(),
            seen=InvestigationInput(templates=templates or {}),
            settings=InvestigationSettings(),
            asking=self.settings,
        )
        return await investigator.investigate(await investigator.gather(Snapshot(at_us=1)))

    def told(self, *kinds: str) -> list[TimelineEvent]:
        """Return the timeline events about the model, only of the given kinds if there are any."""
        events = self.log.read_after(self.incident_id)
        return [event for event in events if event.kind.startswith("model_") and (not kinds or event.kind in kinds)]


@contextmanager
def a_log(folder: Path) -> Iterator[IncidentLog]:
    """Yield an incident log on a separate database."""
    database = Database.open(f"sqlite:///{folder / 'relab.db'}")
    try:
        migrate(database)
        yield IncidentLog(database)
    finally:
        database.close()


def case(log: IncidentLog, gateway: LlmGateway, *, now: Mapping[str, FactValue] = DOUBT, **settings: Any) -> Case:
    """Return a new incident of a separate target."""
    opened = log.open(
        f"shop-{next(_numbers)}", at_us=1_000_000, title="It fails.", severity=Severity.CRITICAL, anomalies=[]
    )
    made = ModelSettings(**{"when": AskWhen.UNSURE, **settings})
    return Case(log, opened.incident.incident_id, gateway, Service(now), made)


def incident_in(prompt: Prompt) -> dict[str, Any]:
    """Return the incident that a prompt contains."""
    found: dict[str, Any] = json.loads(prompt.user.splitlines()[1])
    return found


@dataclass
class ThinkingGateway:
    """A model whose answer is a function of the incident in its prompt."""

    think: Callable[[dict[str, Any]], Mapping[str, Any]]
    prompts: list[Prompt] = field(default_factory=list)

    def complete(
        self,
        prompt: Prompt,
        schema: type[AnswerT],
        *,
        timeout_s: float | None = None,  # noqa: ARG002 the seam's parameter
        billed: Billed | None = None,
    ) -> AnswerT:
        """Return the answer; each call uses 1,000 prompt tokens and 100 completion tokens."""
        self.prompts.append(prompt)
        if billed is not None:
            billed(Spent(1, 1_000, 100, 0.002))
        return schema.model_validate(self.think(incident_in(prompt)))


def named(cause: str, *facts: str, probability: float = 0.9, probes: Sequence[str] = ()) -> ThinkingGateway:
    """Return a model that names a cause and cites the evidence of the given facts."""

    def think(incident: dict[str, Any]) -> Mapping[str, Any]:
        ids = [item["id"] for item in incident["evidence"] if item["fact"] in facts]
        return {"cause": cause, "probability": probability, "evidence_ids": ids, "looks": list(probes)}

    return ThinkingGateway(think)
