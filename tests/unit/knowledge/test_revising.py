"""Proposed order of a runbook's actions: successful ones before failed ones, and untried ones in the author's place."""

from __future__ import annotations

import pytest

from relab.knowledge.models import PastIncident, Resolver, Runbook, RunbookAction, TriedAction, TriedActionResult
from relab.knowledge.reading import parse_runbook
from relab.knowledge.revising import HEADING, revised
from relab.knowledge.writing import write_runbook
from support.incidents.runbooks import past, runbook

NOTHING, WORSE, HELPED, NOT_DONE = (
    TriedActionResult.CHANGED_NOTHING,
    TriedActionResult.MADE_WORSE,
    TriedActionResult.HELPED,
    TriedActionResult.NOT_DONE,
)


def book(*actions: str) -> Runbook:
    return runbook("leak", actions=tuple(RunbookAction(name, {}, f"why {name}") for name in actions))


def incident(number: int, *tried: tuple[str, TriedActionResult], cause: str = "leak") -> PastIncident:
    acts = tuple(TriedAction(action=name, outcome=outcome) for name, outcome in tried)
    return past(f"i{number}", cause, tried=acts, resolved_by=Resolver.RESPONDER)


def order(runbook: Runbook, *incidents: PastIncident) -> list[str] | None:
    found = revised(runbook, incidents)
    return None if found is None else [each.action for each in found.actions]


@pytest.mark.parametrize("failed", [NOTHING, WORSE])
def test_failed_action_comes_after_the_successful_one(failed: TriedActionResult) -> None:
    met = incident(1, ("a", failed), ("b", HELPED))

    assert order(book("a", "b", "c"), met) == ["b", "a", "c"]
    assert order(book("z", "a", "y", "b", "c"), met) == ["z", "y", "b", "a", "c"], "what was not tried stays in order"


def test_failed_actions_keep_their_order() -> None:
    assert order(book("a", "b", "c"), incident(1, ("a", NOTHING), ("b", WORSE), ("c", HELPED))) == ["c", "a", "b"]


@pytest.mark.parametrize(
    "met",
    [
        incident(1, ("a", HELPED)),
        incident(1, ("a", NOTHING)),
        incident(1, ("a", NOT_DONE), ("b", HELPED)),
        incident(1, ("a", NOTHING), ("b", HELPED), cause="another"),
        incident(1, ("b", NOTHING), ("a", HELPED)),
    ],
)
def test_nothing_is_proposed_unless_a_failure_preceded_a_success(met: PastIncident) -> None:
    assert revised(book("a", "b"), [met]) is None


def test_one_failure_does_not_outweigh_a_better_record() -> None:
    failed_once = incident(1, ("a", NOTHING), ("b", HELPED))
    helped = [incident(number, ("b", NOTHING), ("a", HELPED)) for number in (2, 3)]

    assert order(book("a", "b"), failed_once, *helped) is None
    assert order(book("b", "a"), failed_once, *helped) == ["a", "b"]


def test_action_of_a_person_is_added_with_its_parameters() -> None:
    acts = (
        TriedAction(action="a", outcome=NOTHING),
        TriedAction(action="new", parameters={"worker": "w-2", "count": 3.0}, outcome=HELPED),
    )
    met = past("i1", "leak", {"workers.growing.worker": "w-2"}, tried=acts)

    found = revised(book("a", "b"), [met])

    assert found is not None
    assert [each.action for each in found.actions] == ["new", "a", "b"]
    assert found.actions[0].parameters == {"worker": "{workers.growing.worker}", "count": 3}
    assert "i1" in found.actions[0].why


def test_action_with_different_parameters_counts_separately() -> None:
    given = runbook(
        "leak",
        actions=(RunbookAction("set", {"n": 1}), RunbookAction("set", {"n": 2}), RunbookAction("set", {"n": "{x}"})),
    )
    acts = (
        TriedAction(action="set", parameters={"n": 1}, outcome=NOTHING),
        TriedAction(action="set", parameters={"n": 2}, outcome=HELPED),
    )

    found = revised(given, [past("i1", "leak", tried=acts)])

    assert found is not None
    assert [each.parameters["n"] for each in found.actions] == [2, 1, "{x}"]


def test_proposal_has_its_reason_and_is_not_repeated_once_accepted() -> None:
    first, second = (incident(number, ("a", NOTHING), ("b", HELPED)) for number in (1, 2))

    once = revised(book("a", "b"), [first])
    assert once is not None
    read = parse_runbook(write_runbook(once), "leak.md")

    assert read == parse_runbook(write_runbook(read), "leak.md")
    assert read.text.startswith("What to know.")
    (line,) = read.text.partition(HEADING)[2].strip().splitlines()
    assert line.endswith("`a` changed nothing, `b` helped.")
    assert revised(read, [second, first]) is None
    twice = revised(book("a", "c", "b"), [second, first])
    assert twice is not None
    assert twice.text.count("- Incident") == 2
