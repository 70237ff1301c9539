"""Learned runbooks: the action that resolved an unknown cause is proposed only if the same facts recur."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relab.incidents.actions.planning import ActionPlan, Escalation, PlanningSettings, next_plan
from relab.incidents.diagnosis.candidates import UNKNOWN
from relab.incidents.diagnosis.inference import Diagnosis
from relab.incidents.probes.catalogue import PROBES
from relab.knowledge.learnt import PREFIX, learnt_runbooks
from relab.knowledge.library import shipped_shelf
from relab.knowledge.lint import Surroundings, Weight, lint
from relab.knowledge.models import FactValue, PastIncident, Resolver, Risk, Runbook, TriedActionResult
from relab.knowledge.reading import parse_runbook
from relab.knowledge.service import KnowledgeService
from relab.knowledge.writing import write_runbook
from relab.storage import Database
from support.incidents.acts import shipped_catalogue
from support.incidents.probe_answers import WELL as ALL_WELL
from support.incidents.probe_answers import changed, component, facts_of, log_line
from support.incidents.runbooks import past

SHIPPED = shipped_shelf().runbooks
GIVES = {name: look.facts for name, look in PROBES.items()}
CACHE = "/api/v1/diagnostics/cache"
COMPONENTS = "/components"
DATABASE = "/api/v1/diagnostics/database"
LOGS = "/logs?component=target&lines=500"


def facts(*answers: Mapping[str, Any], errors_pct: float = 0.0) -> dict[str, FactValue]:
    """Return the facts of all probes for a healthy target with these responses replaced."""
    merged = changed("/api/v1/metrics?window_s=10", ["error_rate"], errors_pct)
    for told in answers:
        merged |= {path: document for path, document in told.items() if document != ALL_WELL[path]}
    return {fact: value for name in PROBES for fact, value in facts_of(name, merged).items()}


def full_cache(used: int = 67_000_000, errors_pct: float = 12.0) -> dict[str, FactValue]:
    told = changed(CACHE, ["info"], {"used_memory": used, "maxmemory": 67_108_864, "maxmemory_policy": "noeviction"})
    lines = [log_line("cache_error", "OOM command not allowed when used memory > 'maxmemory'", error="OOM")] * 3
    return facts(told, changed(LOGS, ["lines"], lines), errors_pct=errors_pct)


def frozen_worker(name: str = "worker-2", errors_pct: float = 8.0) -> dict[str, FactValue]:
    process = {
        "kernel_state": "stopped",
        "rss_bytes": 1 << 20,
        "cpu_ticks": 1,
        "descriptors": 2,
        "descriptors_limit": 9,
    }
    rows = [
        component("postgres", "database"), component("redis", "cache"), component("links", "links"),
        *(component(worker, "target", **({"process": process} if worker == name else {})) for worker in ("worker-1", "worker-2")),
    ]  # fmt: skip
    told = changed(COMPONENTS, ["components"], rows)
    return facts(
        told, changed("/api/v1/health", ["workers", int(name[-1]) - 1, "state"], "silent"), errors_pct=errors_pct
    )


def missing_index(errors_pct: float = 0.0) -> dict[str, FactValue]:
    rows = [{"name": "orders_number_idx", "statement": "CREATE INDEX orders_number_idx ON orders (number)"}]
    return facts(changed(DATABASE, ["indexes", "missing"], rows), errors_pct=errors_pct)


WELL = facts()
MEETINGS: dict[str, tuple[dict[str, FactValue], dict[str, FactValue], str, dict[str, Any], dict[str, Any]]] = {
    "cache_full": (
        full_cache(), full_cache(67_050_000, 40.0), "set-cache-memory",
        {"max_memory_mb": 128.0, "policy": "allkeys-lru"}, {"max_memory_mb": 128, "policy": "allkeys-lru"},
    ),
    "process_stopped": (
        frozen_worker("worker-2"), frozen_worker("worker-1", 30.0), "resume-process",
        {"component": "worker-2"}, {"component": "worker-1"},
    ),
    "missing_index": (missing_index(), missing_index(4.0), "recreate-indexes", {}, {}),
}  # fmt: skip
"""By the cause whose runbook is removed: facts of the first and second incident, action, its parameters in both."""


def without(cause: str) -> list[Runbook]:
    return [runbook for runbook in SHIPPED if runbook.cause != cause]


def ended(seen: Mapping[str, FactValue], action: str, parameters: Mapping[str, Any], **more: Any) -> PastIncident:
    tried = [{"action": action, "parameters": parameters, "outcome": TriedActionResult.HELPED}]
    return past(more.pop("incident_id", "i1"), UNKNOWN, seen, well=more.pop("well", WELL), tried=tried, **more)


def proposed(runbooks: list[Runbook], seen: Mapping[str, FactValue]) -> ActionPlan | Escalation:
    candidates = Diagnosis(runbooks, seen).candidates()
    return next_plan(candidates, runbooks, seen, shipped_catalogue(), [], PlanningSettings())


@pytest.mark.parametrize("cause", MEETINGS)
def test_second_incident_proposes_the_action_that_resolved_the_first(cause: str) -> None:
    first, second, action, then, now = MEETINGS[cause]
    books = without(cause)
    assert not isinstance(plan := proposed(books, first), ActionPlan) or plan.action != action
    learnt = learnt_runbooks([ended(first, action, then)], books, GIVES)
    assert [(book.risk, book.cause.startswith(PREFIX)) for book in learnt] == [(Risk.MEDIUM, True)]
    plan = proposed([*books, *learnt], second)
    assert isinstance(plan, ActionPlan), plan
    assert plan.cause == learnt[0].cause
    assert plan.action == action
    assert plan.parameters == now
    assert [condition.holds(second) for condition in learnt[0].mended].count(False) > 0
    assert [condition.holds(WELL) for condition in learnt[0].mended] == [True] * len(learnt[0].mended)


@pytest.mark.parametrize("cause", MEETINGS)
def test_learnt_runbook_does_not_match_another_cause(cause: str) -> None:
    first, _, action, then, _ = MEETINGS[cause]
    books = without(cause)
    learnt = learnt_runbooks([ended(first, action, then)], books, GIVES)
    for other, (_, seen, *_) in MEETINGS.items():
        if other != cause:
            before, after = (Diagnosis(these, seen).candidates()[0].cause for these in (books, [*books, *learnt]))
            assert before == after
    assert Diagnosis([*books, *learnt], WELL).candidates()[0].cause == UNKNOWN
    assert isinstance(proposed([*books, *learnt], facts(errors_pct=30.0)), Escalation)


def test_incident_without_distinguishing_facts_teaches_nothing() -> None:
    assert learnt_runbooks([ended(facts(errors_pct=40.0), "restart-target", {})], SHIPPED, GIVES) == ()


@pytest.mark.parametrize(
    "more",
    [
        {"cause": "cache_full"},
        {"resolved_by": Resolver.ITSELF},
        {"resolved_by": Resolver.RESPONDER},
        {"tried": ()},
        {"well": {}},
        {"tried": ({"action": "restart-cache", "outcome": TriedActionResult.CHANGED_NOTHING},)},
    ],
    ids=["named", "by itself", "by the responder", "no act", "no look afterwards", "no help"],
)
def test_unknown_resolution_teaches_nothing(more: dict[str, Any]) -> None:
    incident = ended(full_cache(), "set-cache-memory", {})
    given = PastIncident.model_validate({**incident.model_dump(), **more})
    assert learnt_runbooks([given], without("cache_full"), GIVES) == ()


def test_facts_shared_with_another_cause_teach_nothing() -> None:
    books = without("cache_full")
    known = past("i0", "other", full_cache(), well=WELL, resolved_by=Resolver.RESPONDER)
    assert learnt_runbooks([ended(full_cache(), "restart-cache", {}), known], books, GIVES) == ()


def test_repeated_cause_is_one_runbook_with_the_latest_action_first() -> None:
    books = without("cache_full")
    last = ended(full_cache(67_050_000), "set-cache-memory", {"max_memory_mb": 128}, incident_id="i2")
    (book,) = learnt_runbooks([last, ended(full_cache(), "restart-cache", {})], books, GIVES)
    assert [action.action for action in book.actions] == ["set-cache-memory", "restart-cache"]
    assert "i1" in book.text
    assert "i2" in book.text


def test_accepted_draft_is_not_learned_again() -> None:
    books = without("missing_index")
    first, _, action, then, _ = MEETINGS["missing_index"]
    (book,) = learnt_runbooks([ended(first, action, then)], books, GIVES)
    assert learnt_runbooks([ended(first, action, then)], [*books, book], GIVES) == ()


@pytest.mark.parametrize("cause", MEETINGS)
def test_written_draft_is_read_back_unchanged_and_valid(cause: str) -> None:
    first, _, action, then, _ = MEETINGS[cause]
    (book,) = learnt_runbooks([ended(first, action, then, resolver="ann`\n# x")], without(cause), GIVES)
    read = parse_runbook(write_runbook(book), book.source)
    assert read == book
    assert "\n# x" not in book.text
    remarks = lint([read], Surroundings(actions=shipped_catalogue().actions, looks=GIVES))
    assert [remark for remark in remarks if remark.weight is Weight.ERROR] == []


def test_a_draft_is_not_in_use_until_it_is_added(tmp_path: Path) -> None:
    first, _, action, then, _ = MEETINGS["missing_index"]
    (book,) = learnt_runbooks([ended(first, action, then)], without("missing_index"), GIVES)
    database = Database.open(f"sqlite:///{tmp_path / 'relab.db'}")
    try:
        service = KnowledgeService(database, folder=None, home_folder=tmp_path / "knowledge")
        path = service.draft(book)
        assert path.parent == tmp_path / "knowledge" / "drafts"
        assert service.library().get(book.cause) is None
        path.write_text(write_runbook(replace(book, title="Worked on")))
        assert service.draft(book).read_text() == write_runbook(replace(book, title="Worked on"))
        service.add(path)
        found = service.library().get(book.cause)
        assert found is not None
        assert found.title == "Worked on"
    finally:
        database.close()


_NAMES = st.sampled_from(
    [*(fact for gives in GIVES.values() for fact in gives), "odd.{fact}", "worker.1.rss_mb", "é\n"]
)
_VALUES = st.one_of(st.booleans(), st.floats(allow_nan=False, allow_infinity=False), st.text(max_size=20))
_FACTS = st.dictionaries(_NAMES, _VALUES, max_size=12)


@given(seen=_FACTS, well=_FACTS, parameters=st.dictionaries(st.text(min_size=1, max_size=9), _VALUES, max_size=3))
def test_any_learnt_runbook_can_be_written_and_evaluated(
    seen: dict[str, FactValue], well: dict[str, FactValue], parameters: dict[str, FactValue]
) -> None:
    learnt = learnt_runbooks([ended(seen, "restart-target", parameters, well=well)], SHIPPED, GIVES)
    for book in learnt:
        assert write_runbook(book)
        assert all(condition.holds(dict(ended(seen, "a", {}).facts)) is True for condition in book.requires)
    assert Diagnosis([*SHIPPED, *learnt], seen).candidates()
