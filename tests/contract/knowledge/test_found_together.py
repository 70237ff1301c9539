"""Search over runbooks and past incidents; past incidents are excluded if memory is off."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from relab.knowledge.models import HitKind
from relab.knowledge.service import KnowledgeService
from support.incidents.runbooks import past


class NearNothingButNotes:
    """A similarity model that rates only texts about a whale as similar to a query."""

    def likeness(self, query: str, texts: Sequence[Sequence[str]]) -> list[float]:
        assert query
        return [0.9 if "the whale sang" in text else 0.1 for text in texts]


@pytest.mark.parametrize("remembers", [True, False])
def test_past_incidents_are_found_by_meaning_unless_memory_is_off(knowledge: KnowledgeService, remembers: bool) -> None:
    knowledge.remember(past("together-1", "whale", note="the whale sang"))
    folder = knowledge.folder
    same = KnowledgeService(
        knowledge._database, folder=None, home_folder=folder, remembers=remembers, meaning=NearNothingButNotes()
    )

    found = [(hit.kind, hit.id) for hit in same.search("zzz")]

    assert found == ([(HitKind.INCIDENT, "together-1")] if remembers else [])
    assert same.search("zzz", with_incidents=False) == knowledge.search("zzz") == []
