"""Investigations: probes run as long as they add information, and a confirmed cause was measured twice."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from relab.bootstrap import Services
from relab.incidents.diagnosis.candidates import UNKNOWN, probability_of_any
from relab.incidents.diagnosis.investigation import (
    FIRST_PROBES,
    InvestigationResult,
    InvestigationSettings,
    Investigator,
    KnownFacts,
)
from relab.incidents.models import Snapshot
from relab.incidents.probes.catalogue import PROBES
from relab.incidents.probes.models import ProbeEvidence, ProbeResult
from relab.knowledge.library import shipped_shelf
from relab.knowledge.models import Expectation, FactCondition, FactValue, Operator, Risk, Runbook
from support.incidents.probe_answers import facts_of

RUNBOOKS = shipped_shelf().runbooks
WELL: Mapping[str, Mapping[str, FactValue]] = {name: facts_of(name) for name in PROBES}
LOCKED: Mapping[str, FactValue] = {"database.waits.lock": 3.0, "database.blocking.idle_s": 40.0, "database.slow": 2.0}


@dataclass
class Service:
    """A service whose probes return `WELL`, overridden by its current facts."""

    now: dict[str, FactValue] = field(default_factory=dict)
    later: Sequence[Mapping[str, FactValue]] = ()
    taken: list[tuple[str, ...]] = field(default_factory=list)

    async def run(self, names: Sequence[str]) -> ProbeResult:
        if len(self.taken) < len(self.later):
            self.now = dict(self.later[len(self.taken)])
        self.taken.append(tuple(names))
        facts: dict[str, FactValue] = {}
        for name in names:
            facts |= WELL[name]
            facts |= {fact: value for fact, value in self.now.items() if fact in PROBES[name].facts}
        evidence = tuple(
            ProbeEvidence(f"ev-{len(self.taken)}-{fact}", "look", "GET /", "", fact, value, str(value), len(self.taken))
            for fact, value in facts.items()
        )
        return ProbeResult(facts, evidence)


def investigate(
    service: Service, poll: Snapshot | None = None, runbooks: Sequence[Runbook] = RUNBOOKS, **more: float
) -> InvestigationResult:
    async def go() -> InvestigationResult:
        investigator = Investigator(service.run, runbooks, settings=InvestigationSettings(**more))  # type: ignore[arg-type]
        return await investigator.investigate(await investigator.gather(poll or Snapshot(at_us=1)))

    return asyncio.run(go())


def test_cause_that_needs_further_probes_is_found() -> None:
    service = Service(dict(LOCKED))
    found = investigate(service)
    assert service.taken[0] == FIRST_PROBES
    assert found.best.cause == "database_lock"
    assert found.is_confirmed is True
    assert found.best.unproven == ()
    assert found.best.probability >= 0.9
    assert "database.waits.lock" in [item.fact for item in found.cited]


def test_excluded_runbook_is_not_a_candidate(make_services: Callable[..., Services]) -> None:
    services = make_services(incidents={"excluded_runbooks": ["database_lock"]})
    found = investigate(Service(dict(LOCKED)), runbooks=services.knowledge.library().runbooks)
    assert "database_lock" not in {one.cause for one in found.candidates}
    assert found.best.probability < 0.5, "nothing else explains it"


def test_cause_is_confirmed_by_two_measurements() -> None:
    service = Service(dict(LOCKED))
    found = investigate(service)
    told = found.known.evidence["database.waits.lock"]
    # The probe that supports the cause ran twice, and the later result is cited.
    assert sum("database.waits" in names for names in service.taken) == 2
    assert told.at_us == len(service.taken)


def test_fact_that_only_the_conditions_of_a_runbook_name_is_measured_twice_too() -> None:
    works = FactCondition("search.broken", Operator.IS, 0.0)
    books = [
        replace(book, requires=(*book.requires, works)) if book.cause == "database_lock" else book for book in RUNBOOKS
    ]
    service = Service(dict(LOCKED))
    found = investigate(service, runbooks=books)
    assert (found.best.cause, found.is_confirmed) == ("database_lock", True)
    assert sum("search" in names for names in service.taken) == 2


def test_transient_cause_of_the_first_probes_is_dropped() -> None:
    frozen: dict[str, FactValue] = {"processes.frozen": 1.0, "workers.silent": 1.0}
    # Observed until its probes run again; afterwards the cause is a lock.
    until = [frozen] * 2
    service = Service(later=[*until, *[LOCKED] * 10])
    found = investigate(service, max_rounds=10)
    assert found.best.cause == "database_lock"
    assert found.is_confirmed


FROZEN: Mapping[str, FactValue] = {
    "processes.frozen": 1.0,
    "processes.frozen.component": "worker-1",
    "workers.silent": 1.0,
}


def test_two_causes_that_begin_at_once_are_both_named() -> None:
    found = investigate(Service({**LOCKED, **FROZEN, "pool.fullest_pct": 100.0, "logs.database.pool": 9.0}))
    assert found.is_confirmed
    assert found.second is not None
    assert {found.best.cause, found.second.cause} == {"database_lock", "process_stopped"}
    assert min(found.best.probability, found.second.probability) >= 0.75
    assert {"database.waits.lock", "processes.frozen"} <= {item.fact for item in found.cited}


@pytest.mark.parametrize("seen", [LOCKED, FROZEN], ids=["lock", "frozen"])
def test_one_cause_is_not_diagnosed_as_two(seen: Mapping[str, FactValue]) -> None:
    assert investigate(Service(dict(seen))).second is None


def test_healthy_service_has_an_unknown_cause_after_a_bounded_number_of_probes() -> None:
    service = Service()
    found = investigate(service)
    assert found.best.cause == UNKNOWN
    assert len(service.taken) <= 1 + InvestigationSettings().max_rounds


@pytest.mark.parametrize("most", [0, 1, 2])
def test_the_number_of_rounds_is_bounded(most: int) -> None:
    service = Service(dict(LOCKED))
    found = investigate(service, max_rounds=most)
    assert found.rounds == most
    assert len(service.taken) == most + 1
    assert not found.is_confirmed


def test_fact_that_a_later_probe_lacks_is_removed() -> None:
    first = KnownFacts().with_probes(["pool"], ProbeResult({"pool.used": 5.0, "pool.pending": 1.0}))
    assert first.with_probes(["pool"], ProbeResult({"pool.used": 4.0})).facts == {"pool.used": 4.0}
    assert first.with_probes(["cache"], ProbeResult({})).facts == first.facts


def test_evidence_of_a_removed_fact_is_removed_too() -> None:
    found = [
        ProbeEvidence(f"ev-{fact}", "pool", "GET /", "", fact, value, str(value), 1)
        for fact, value in (("pool.used", 5.0), ("pool.pending", 1.0))
    ]
    first = KnownFacts().with_probes(["pool"], ProbeResult({"pool.used": 5.0, "pool.pending": 1.0}, tuple(found)))
    later = first.with_probes(["pool"], ProbeResult({"pool.used": 5.0}, tuple(found[:1])))

    assert dict(later.evidence) == {"pool.used": found[0]}


def test_probes_are_listed_once_in_the_order_of_their_first_run() -> None:
    known = KnownFacts()
    for names in (["pool", "logs"], ["logs", "cache"], ["pool"]):
        known = known.with_probes(names, ProbeResult({}))

    assert known.looked == ("pool", "logs", "cache")


def test_figures_are_relative_to_the_baseline() -> None:
    async def go() -> KnownFacts:
        investigator = Investigator(Service().run, RUNBOOKS, usual={"traffic.rps": 50.0})
        return await investigator.gather(Snapshot(at_us=1, numbers={"traffic.rps": 150.0}))

    known = asyncio.run(go())
    rate = known.facts["traffic.rps"]
    assert isinstance(rate, float)
    assert known.facts["traffic.times_usual"] == rate / 50.0


def at_least(fact: str, value: float) -> FactCondition:
    return FactCondition(fact, Operator.AT_LEAST, value)


def book_of(cause: str, *expectations: Expectation, requires: tuple[FactCondition, ...] = ()) -> Runbook:
    return Runbook(cause, cause, (), expectations, (), (), (), Risk.LOW, 1.0, requires=requires)


WAITED, BROKEN = at_least("pool.pending", 5.0), at_least("search.broken", 1.0)


@pytest.mark.parametrize(
    ("book", "pending", "rounds"),
    [
        # A sure cause is only confirmed, although another probe would add information.
        (book_of("a", Expectation(WAITED, 0.95, 0.05), Expectation(BROKEN, 0.5, 0.05)), 9.0, [("pool", "search")]),
        # A required fact is probed first.
        (book_of("a", Expectation(WAITED, 0.95, 0.05), requires=(BROKEN,)), 9.0, [("search",), ("pool", "search")]),
        # The most probable cause is confirmed even if it is not sure.
        (book_of("a", Expectation(WAITED, 0.4, 0.5)), 9.0, [("pool",)]),
        # No runbook names probes for an unknown cause.
        (book_of("a", Expectation(WAITED, 0.95, 0.05)), 0.0, [FIRST_PROBES]),
    ],
)
def test_rounds_of_probes_follow_from_the_most_probable_cause(
    book: Runbook, pending: float, rounds: list[tuple[str, ...]]
) -> None:
    service = Service({"pool.pending": pending, "search.broken": 2.0})

    found = investigate(service, runbooks=[book])

    assert service.taken == [FIRST_PROBES, *rounds]
    assert found.is_confirmed


def test_cheaper_of_two_equally_informative_probes_runs_first() -> None:
    frozen = at_least("processes.frozen", 1.0)
    books = [book_of("a", Expectation(frozen, 0.95, 0.05)), book_of("b", Expectation(BROKEN, 0.95, 0.05))]
    service = Service()

    investigate(service, runbooks=books, max_concurrent_probes=1)

    assert service.taken[1:3] == [("search",), ("processes",)]


def test_past_incidents_and_repaired_causes_count_in_a_diagnosis() -> None:
    books = [book_of(cause, Expectation(WAITED, 0.95, 0.05)) for cause in ("a", "b")]
    known = KnownFacts({"pool.pending": 9.0})

    def causes(**inputs: Any) -> list[str]:
        return [item.cause for item in Investigator(Service().run, books, **inputs).diagnose(known)]

    assert causes()[0] == "a"
    assert causes(memory={"b": 2.0})[0] == "b"
    assert "a" not in causes(mended=["a"])


values = st.one_of(st.booleans(), st.floats(0, 1e6), st.sampled_from(["ok", "failing", "none", "refused", "running"]))
facts = st.dictionaries(st.sampled_from(sorted({fact for look in PROBES.values() for fact in look.facts})), values)


@settings(max_examples=12)
@given(st.lists(facts, min_size=1, max_size=8))
def test_any_facts_give_a_distribution_of_causes(moments: list[dict[str, FactValue]]) -> None:
    service = Service(later=moments)
    found = investigate(service)
    assert len(service.taken) <= 1 + InvestigationSettings().max_rounds
    causes = {candidate.cause for candidate in found.candidates}
    assert probability_of_any(found.candidates, causes) == pytest.approx(1.0, abs=0.05)
    assert {item.evidence_id for item in found.cited} <= {item.evidence_id for item in found.known.evidence.values()}
