"""Past incidents on both databases: stored unchanged, corrected, deleted, listed and searched."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from relab.knowledge.errors import PastIncidentNotFoundError
from relab.knowledge.models import FactValue, PastIncident, Resolver, TriedAction, TriedActionResult
from relab.knowledge.service import KnowledgeService
from support.incidents.runbooks import past

_numbers = itertools.count()
FACTS: dict[str, FactValue] = {"pool.used_pct": 100.0, "count": 3, "health": "degraded", "quiet": True, "odd": -0.5}


def new_id() -> str:
    return f"incident-{next(_numbers)}"


def whole() -> PastIncident:
    return past(
        new_id(),
        "pool_leak",
        FACTS,
        {"timeout after <*> ms": 12},
        target="shop",
        tried=(
            TriedAction(
                action="restart",
                parameters={"worker": "2", "hard": False, "n": 1.5},
                outcome=TriedActionResult.CHANGED_NOTHING,
            ),
            TriedAction(action="remediate", outcome=TriedActionResult.HELPED),
        ),
        note="Ümläute, and \u2028 odd lines\nand more.",
    )


def test_stored_incident_is_read_back(knowledge: KnowledgeService) -> None:
    incident = whole()
    knowledge.remember(incident)

    found = knowledge.get(incident.incident_id)

    assert found == incident
    assert {name: type(value) for name, value in found.facts.items()} == {
        "pool.used_pct": float, "count": float, "health": str, "quiet": bool, "odd": float,
    }  # fmt: skip
    assert [each.action for each in found.helped] == ["remediate"]
    assert [each.action for each in found.failed] == ["restart"]


def test_incident_is_stored_once_and_can_be_corrected_and_deleted(knowledge: KnowledgeService) -> None:
    incident = whole()
    knowledge.remember(incident)
    knowledge.remember(incident)
    corrected = incident.model_copy(update={"cause": "database_lock", "target": f"t-{incident.incident_id}"})
    knowledge.remember(corrected)

    assert knowledge.latest(target=corrected.target) == [corrected]
    assert incident.incident_id not in {each.incident_id for each in knowledge.latest(cause="pool_leak")}
    knowledge.delete(incident.incident_id)
    assert knowledge.latest(target=corrected.target) == []


def test_incidents_are_listed_by_end_newest_first(knowledge: KnowledgeService) -> None:
    target = new_id()
    times = {f"{target}-{name}": 1_700_000_000_000_000 + at for name, at in (("a", 5), ("B", 7), ("c", 7), ("d", 1))}
    for incident_id, at in times.items():
        knowledge.remember(past(incident_id, "c", resolved_at=at, target=target, resolved_by=Resolver.ITSELF))

    found = [each.incident_id.removeprefix(f"{target}-") for each in knowledge.latest(target=target)]
    assert found == ["c", "B", "a", "d"], "ids of one moment in the order of their bytes"
    assert len(knowledge.latest(target=target, limit=2)) == 2


def test_search_and_memory_use_past_incidents(knowledge: KnowledgeService) -> None:
    incident = past(new_id(), "odd_cause", FACTS, {"frobnication <*> exceeded": 2})
    knowledge.remember(incident)

    assert incident.incident_id in {hit.id for hit in knowledge.search("frobnication exceeded")}
    assert incident.incident_id not in {
        hit.id for hit in knowledge.search("frobnication exceeded", with_incidents=False)
    }
    assert knowledge.memory(FACTS, {"frobnication <*> exceeded": 1})["odd_cause"] > 1
    everything = [each.incident_id for each in knowledge.latest()]
    assert knowledge.memory(FACTS, {}, leave_out=everything) == {}


@pytest.mark.parametrize("incident_id", ["none", "", "a/b", "\x00", "\ud800", "x" * 1_000])
def test_unknown_past_incident_is_not_found(knowledge: KnowledgeService, incident_id: str) -> None:
    with pytest.raises(PastIncidentNotFoundError):
        knowledge.get(incident_id)
    with pytest.raises(PastIncidentNotFoundError):
        knowledge.delete(incident_id)


TEXT = st.text(st.characters(), max_size=20)


@settings(max_examples=30)
@given(words=st.lists(TEXT, min_size=4, max_size=4))
def test_any_log_text_is_stored_unchanged(knowledge: KnowledgeService, words: list[str]) -> None:
    fact, value, template, note = words
    incident = past(new_id(), "c", {fact: value}, {template: 1}, note=note, target=note, resolver=value)
    knowledge.remember(incident)

    assert knowledge.get(incident.incident_id) == incident


def test_long_texts_are_cut_and_odd_characters_replaced() -> None:
    incident = past("i", "c", {"f\x00": "x" * 5_000}, {"a\x1b[2J\ud800": 1})

    assert incident.facts == {"f\ufffd": "x" * 1_000}
    assert incident.templates == {"a\ufffd[2J\ufffd": 1}


@pytest.mark.parametrize(
    "changed",
    [
        {"facts": {"n": float("nan")}},
        {"facts": {"n": float("inf")}},
        {"facts": {str(n): 1.0 for n in range(2_001)}},
        {"templates": {"a": -1}},
        {"cause": "Not A Cause"},
        {"incident_id": "a/b"},
        {"resolved_at": "soon"},
        {"resolved_by": "nobody"},
        {"colour": "red"},
    ],
)
def test_invalid_incident_is_rejected(changed: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        PastIncident.model_validate({**past("i", "c").model_dump(), **changed})
