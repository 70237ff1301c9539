"""Drafts of runbook changes from past incidents: a person sees the difference and accepts it before it is used."""

from __future__ import annotations

from pathlib import Path

import pytest

from relab.knowledge.errors import DraftNotFoundError, RunbookError
from relab.knowledge.models import PastIncident, Resolver, TriedAction, TriedActionResult
from relab.knowledge.service import KnowledgeService
from support.incidents.runbooks import past, runbook

CAUSE = "database_lock"


def met(incident_id: str, knowledge: KnowledgeService) -> PastIncident:
    """Return a past incident in which the first action of the shipped runbook failed and the second helped."""
    first, second = knowledge.runbook(CAUSE).actions[:2]
    acts = (
        TriedAction(action=first.action, parameters={"pid": "17"}, outcome=TriedActionResult.CHANGED_NOTHING),
        TriedAction(action=second.action, parameters=second.parameters, outcome=TriedActionResult.HELPED),
    )
    return past(incident_id, CAUSE, tried=acts, resolved_by=Resolver.RESPONDER)


def test_change_is_drafted_shown_and_used_after_its_acceptance(knowledge: KnowledgeService) -> None:
    names = [each.action for each in knowledge.runbook(CAUSE).actions]
    assert knowledge.revisions(CAUSE) == knowledge.revisions("no_such_cause") == ()
    knowledge.remember(met("drafts-1", knowledge))

    (proposed,) = knowledge.revisions(CAUSE)
    path = knowledge.draft(proposed)

    assert [each.action for each in knowledge.runbook(CAUSE).actions] == names, (
        "nothing is in use before it is accepted"
    )
    (draft,), problems = knowledge.drafts()
    assert draft.runbook.cause == CAUSE
    assert draft.path == path
    assert draft.is_new is False
    assert problems == ()
    lines = draft.diff.splitlines()
    assert lines[:2] == [f"--- shipped/{CAUSE}.md", f"+++ {path}"]
    assert [line for line in lines[2:] if line.startswith("-")] != []
    assert any(line.startswith("+- Incident `drafts-1`") for line in lines)

    accepted = knowledge.accept(CAUSE)

    assert [each.action for each in knowledge.runbook(CAUSE).actions] == [names[1], names[0], *names[2:]]
    assert Path(accepted.source) == knowledge.folder / f"{CAUSE}.md"
    assert knowledge.drafts() == ([], ())
    assert knowledge.revisions(CAUSE) == (), "what is accepted is not proposed again"


def test_edited_draft_is_kept_and_broken_draft_is_reported(knowledge: KnowledgeService) -> None:
    path = knowledge.draft(runbook("odd_one", title="As it was made"))
    path.write_text(path.read_text().replace("As it was made", "As a person has it"))

    assert knowledge.draft(runbook("odd_one", title="Made again")) == path
    draft = knowledge.get_draft("odd_one")
    assert draft.runbook.title == "As a person has it"
    assert draft.is_new is True
    assert "+++" in draft.diff
    assert '+title: "As a person has it"' in draft.diff

    path.write_text("---\ncause: 3\n---\n")
    with pytest.raises(DraftNotFoundError, match=r"odd_one.md:2: cause"):
        knowledge.accept("odd_one")
    assert knowledge.drafts()[1] != ()
    path.unlink()


def test_unusable_draft_is_not_accepted(knowledge: KnowledgeService) -> None:
    path = knowledge.draft(runbook("useless_one", mended=()))

    with pytest.raises(RunbookError) as caught:
        knowledge.accept("useless_one")
    assert [place.rpartition(": ")[2] for place, _ in caught.value.problems] == ["mended"]

    assert path.exists()
    path.unlink()
