"""Planning: the next untried action for a sufficiently probable cause; otherwise an escalation with its reason."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from relab.incidents.actions.catalogue import ActionEntry, Catalogue, ParameterRule, ParameterValue, UserImpact
from relab.incidents.actions.planning import ActionPlan, Escalation, PlanningSettings, next_plan
from relab.incidents.actions.records import ExcludedAction
from relab.incidents.diagnosis.candidates import UNKNOWN, Candidate
from relab.knowledge.models import FactValue, Risk, Runbook, RunbookAction
from support.incidents.acts import catalogue, entry, shipped_catalogue, worker_entry

RESTART = RunbookAction("restart-worker", {"worker": "{workers.stopped.worker}"}, "it starts anew")
ALL = RunbookAction("restart-target")
PATH = RunbookAction("use-path", {"dependency": "database", "path": "{paths.database.other}"})
USE_PATH = entry(
    "use-path", action_class="setting", blast_radius=UserImpact.WHOLE_SERVICE, inverse="use-path",
    parameters={name: ParameterRule(name, frozenset({"string"}), required=True) for name in ("dependency", "path")},
)  # fmt: skip
OFFERED = catalogue(worker_entry(), entry("restart-target", target="target"), USE_PATH, entry("restart-cache"))
FACTS: dict[str, FactValue] = {"workers.stopped.worker": "2", "paths.database.other": "secondary"}


def book(cause: str, *actions: RunbookAction, risk: Risk = Risk.LOW) -> Runbook:
    return Runbook(cause, f"About {cause}", (), (), (), actions, (), risk, source=f"{cause}.md")


BOOKS = (book("stopped", RESTART, ALL), book("leak", ALL), book("path", PATH, RunbookAction("restart-cache")))


def ranked(**probabilities: float) -> list[Candidate]:
    left = max(1 - sum(probabilities.values()), 0.0)
    found = {UNKNOWN: left, **probabilities}
    return [Candidate(cause, value) for cause, value in sorted(found.items(), key=lambda item: -item[1])]


def planned(
    candidates: Sequence[Candidate],
    *tried: ExcludedAction,
    facts: dict[str, FactValue] | None = None,
    books: Sequence[Runbook] = BOOKS,
    offered: Catalogue = OFFERED,
) -> ActionPlan | Escalation:
    return next_plan(candidates, books, FACTS if facts is None else facts, offered, tried, PlanningSettings())


def plan(*args: Any, **more: Any) -> ActionPlan:
    found = planned(*args, **more)
    assert isinstance(found, ActionPlan), found
    return found


def escalation(*args: Any, **more: Any) -> Escalation:
    found = planned(*args, **more)
    assert isinstance(found, Escalation), found
    assert found.reason
    return found


def tried(found: ActionPlan) -> ExcludedAction:
    return ExcludedAction(found.action, found.target, found.fingerprint)


def test_the_first_action_of_the_best_cause_is_filled_in_from_facts() -> None:
    found = plan(ranked(stopped=0.9))
    assert found.cause == "stopped"
    assert found.action == "restart-worker"
    assert found.parameters == {"worker": 2}
    assert found.target == "target"
    assert found.why == "it starts anew"
    assert found.runbook == "stopped.md"
    assert ActionPlan.model_validate(json.loads(found.model_dump_json())) == found


def test_failed_action_is_not_repeated_and_an_exhausted_cause_is_dropped() -> None:
    candidates = ranked(stopped=0.6, path=0.3)
    first = plan(candidates)
    second = plan(candidates, tried(first))
    third = plan(candidates, tried(first), tried(second))
    assert [item.action for item in (first, second, third)] == ["restart-worker", "restart-target", "use-path"]
    assert third.cause == "path"
    # Dropping the tried causes raises its share to three quarters.
    assert third.probability == pytest.approx(0.75)
    fourth = plan(candidates, tried(first), tried(second), tried(third))
    assert fourth.action == "restart-cache"
    nothing_left = escalation(candidates, *map(tried, (first, second, third, fourth)))
    assert "did not help, and no other runbook fits" in nothing_left.reason


def test_same_action_on_another_worker_is_a_new_plan() -> None:
    first = plan(ranked(stopped=0.9))
    again = plan(ranked(stopped=0.9), tried(first), facts={"workers.stopped.worker": "1"})
    assert again.parameters == {"worker": 1}


def test_setting_is_not_switched_back_and_forth() -> None:
    first = plan(ranked(path=0.9))
    assert first.parameters == {"dependency": "database", "path": "secondary"}
    # The facts now report the previous path as the alternative.
    second = plan(ranked(path=0.9), tried(first), facts={"paths.database.other": "primary"})
    assert second.action == "restart-cache"


def test_incident_is_escalated_after_all_actions_were_tried() -> None:
    found = plan(ranked(leak=1.0), books=[book("leak", ALL)])
    assert "tried" in escalation([Candidate("leak", 1.0)], tried(found), books=[book("leak", ALL)]).reason


@pytest.mark.parametrize(
    ("candidates", "said"),
    [
        (ranked(stopped=0.3), "No runbook fits"),
        (ranked(), "No runbook fits"),
        ([Candidate("of_nobody", 0.9)], "No runbook fits"),
        ([], "tried"),
    ],
)
def test_cause_without_a_suitable_runbook_is_escalated(candidates: list[Candidate], said: str) -> None:
    assert said in escalation(candidates).reason


def test_two_simultaneous_causes_keep_their_probabilities_and_are_repaired_in_turn() -> None:
    found = [
        Candidate("path", 0.97, together={"stopped": 0.95}),
        Candidate("stopped", 0.96, together={"path": 0.95}),
        Candidate(UNKNOWN, 0.02),
    ]
    first = plan(found)
    second = plan(found, tried(first))
    assert [(each.cause, each.action, each.confidence) for each in (first, second)] == [
        ("path", "use-path", pytest.approx(0.97)), ("path", "restart-cache", pytest.approx(0.97)),
    ]  # fmt: skip
    then = plan(found, tried(first), tried(second))
    assert then.action == "restart-worker"
    assert then.cause == "stopped"
    assert then.confidence == pytest.approx(0.96 / 0.98, abs=0.01)


@pytest.mark.parametrize(("risk", "least"), [(Risk.LOW, 0.5), (Risk.MEDIUM, 0.6), (Risk.HIGH, 0.8)])
def test_riskier_action_needs_a_higher_probability(risk: Risk, least: float) -> None:
    books = [book("leak", ALL, risk=risk), book("path", PATH)]
    below, enough = least - 0.02, least + 0.02
    unsure = [Candidate("leak", below), Candidate("path", 0.0), Candidate(UNKNOWN, 1 - below)]
    if below > 0.5:
        assert f"at least {least:g} is required" in escalation(unsure, books=books).reason
    sure = [Candidate("leak", enough), Candidate("path", 0.0), Candidate(UNKNOWN, 1 - enough)]
    assert plan(sure, books=books).action == "restart-target"


def test_causes_with_the_same_action_share_their_confidence() -> None:
    books = [book("leak", ALL), book("stopped", ALL), book("path", PATH)]
    found = plan(ranked(leak=0.4, stopped=0.35, path=0.15), books=books)
    assert found.action == "restart-target"
    assert found.probability == 0.4
    assert found.confidence == pytest.approx(0.75)
    # A single one of the two probabilities would be too low.
    assert "at least 0.5 is required" in escalation(ranked(leak=0.4, path=0.35), books=books).reason


@pytest.mark.parametrize(
    ("facts", "offered", "said"),
    [
        ({}, OFFERED, "the facts workers.stopped.worker are unknown"),
        ({"workers.stopped.worker": "1; reboot"}, OFFERED, "worker cannot be"),
        ({"workers.stopped.worker": 99.0}, OFFERED, "worker cannot be"),
        ({"workers.stopped.worker": True}, OFFERED, "worker cannot be"),
        (FACTS, catalogue(), "does not offer it"),
        (FACTS, catalogue(entry("restart-worker")), "is not a parameter"),
    ],
)
def test_impossible_action_is_left_out_with_the_reason(
    facts: dict[str, FactValue], offered: Catalogue, said: str
) -> None:
    only = [book("stopped", RESTART)]
    found = escalation(ranked(stopped=0.9), facts=facts, offered=offered, books=only)
    assert said in found.left_out[0]
    if "restart-target" in offered.actions:
        assert plan(ranked(stopped=0.9), facts=facts, offered=offered).action == "restart-target"


def test_untried_cause_is_not_dropped_for_a_less_probable_one() -> None:
    books = [book("stopped", RESTART), book("leak", ALL)]
    assert "stopped" in escalation(ranked(stopped=0.8, leak=0.15), facts={}, books=books).reason


@pytest.mark.parametrize(
    ("value", "facts", "filled"),
    [
        ("{a.b}", {"a.b": 7.0}, 7),
        ("{a.b}", {"a.b": "7"}, 7),
        ("{a.b}{a.c}", {"a.b": 1_234_567.0, "a.c": 8.0}, 12_345_678),
        ("12", {}, 12),
        (12, {}, 12),
    ],
)
def test_integer_parameter_stays_an_integer(value: FactValue, facts: dict[str, FactValue], filled: int) -> None:
    pid = ParameterRule("pid", frozenset({"integer"}), required=True)
    books = [book("lock", RunbookAction("end-session", {"pid": value}))]
    offered = catalogue(entry("end-session", parameters={"pid": pid}))
    assert plan(ranked(lock=0.9), facts=facts, books=books, offered=offered).parameters == {"pid": filled}


@pytest.mark.parametrize(
    ("value", "fact", "kind", "filled"),
    [
        ("{a}", 7.5, "number", 7.5),
        ("{a}", True, "boolean", True),
        ("x-{a}", "b", "string", "x-b"),
        ("x-{a}", False, "string", "x-false"),
        ("x-{a}", 0.25, "string", "x-0.25"),
        ("x-{a}", 1_234_567.0, "string", "x-1234567"),
    ],
)
def test_placeholder_is_replaced_by_its_fact(value: str, fact: FactValue, kind: str, filled: ParameterValue) -> None:
    books = [book("lock", RunbookAction("mend", {"p": value}))]
    offered = catalogue(entry("mend", parameters={"p": ParameterRule("p", frozenset({kind}))}))
    assert plan(ranked(lock=0.9), facts={"a": fact}, books=books, offered=offered).parameters == {"p": filled}


def test_cause_whose_action_is_impossible_adds_no_confidence_to_the_same_action() -> None:
    books = [book("leak", ALL), book("stopped", RunbookAction("restart-target", {"worker": "{not.known}"}))]
    assert "at least 0.5 is required" in escalation(ranked(leak=0.45, stopped=0.35), books=books).reason


def test_plan_of_a_short_runbook_names_its_title_and_cause() -> None:
    found = plan(ranked(leak=0.9), books=[replace(book("leak", ALL), source="")])
    assert found.why == "About leak"
    assert found.runbook == "leak"


def test_escalation_says_why_there_is_no_action() -> None:
    impossible, without = (book("stopped", *actions) for actions in ((RESTART,), ()))
    assert "none of its actions is possible" in escalation(ranked(stopped=0.9), facts={}, books=[impossible]).reason
    assert "its runbook has no action" in escalation(ranked(stopped=0.9), books=[without]).reason
    near = escalation(ranked(stopped=0.3, leak=0.2, path=0.1, other=0.05)).reason
    assert near == "No runbook fits what is seen; the nearest are stopped, leak, path."
    assert escalation(ranked()).reason == "No runbook fits what is seen."


def test_escalation_lists_tried_actions() -> None:
    first = plan(ranked(stopped=0.9))
    found = escalation(ranked(stopped=0.45, path=0.35), tried(first))
    assert found.left_out == ("restart-worker: it was tried",)


@settings(max_examples=60)
@given(
    st.lists(st.floats(0, 1), min_size=4, max_size=4),
    st.dictionaries(
        st.sampled_from(sorted(FACTS)), st.one_of(st.text(max_size=5), st.floats(), st.booleans()), max_size=2
    ),
)
def test_planning_always_ends_and_repeats_nothing(probabilities: list[float], facts: dict[str, FactValue]) -> None:
    causes = ["stopped", "leak", "path", UNKNOWN]
    candidates = [Candidate(cause, value) for cause, value in zip(causes, probabilities, strict=True)]
    done: list[ExcludedAction] = []
    for _ in range(10):
        found = planned(candidates, *done, facts=facts)
        if isinstance(found, Escalation):
            break
        assert tried(found) not in done
        assert 0 < found.probability <= found.confidence <= 1
        done.append(tried(found))
    else:
        raise AssertionError("it never gives up")


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -0.1, 2.1])
def test_number_that_is_not_finite_or_out_of_bounds_is_rejected(value: float) -> None:
    bounded = ParameterRule("share", frozenset({"number"}), least=0.0, most=2.0)
    assert bounded.fit(value) is None
    assert [bounded.fit(0.0), bounded.fit(2.0)] == [0.0, 2.0]
    assert ParameterRule("share").fit(float("nan")) is None


def test_testbed_catalogue_accepts_valid_parameters() -> None:
    offered: dict[str, ActionEntry] = dict(shipped_catalogue().actions)
    cases: list[tuple[str, dict[str, ParameterValue], dict[str, ParameterValue]]] = [
        ("restart-worker", {"worker": "2"}, {"worker": 2}),
        ("raise-limit", {"component": "target", "memory_mb": 512.0}, {"component": "target", "memory_mb": 512.0}),
        ("set-cache-memory", {"policy": "allkeys-lru"}, {"policy": "allkeys-lru"}),
        ("remediate-db-pool-exhaustion", {"escalate_to_db_restart": False}, {"escalate_to_db_restart": False}),
    ]
    for action, parameters, fitted in cases:
        assert offered[action].fit(parameters) == (fitted, []), action
    assert offered["restart-worker"].fit({"worker": 64})[1]
    assert offered["restart-worker"].fit({})[1] == ["worker is missing"]
    assert offered["set-cache-memory"].fit({"policy": "other"})[1]
    assert offered["restart-worker"].target_of({"worker": 1}) == "target"
    assert offered["use-path"].target_of({"dependency": "cache"}) == "cache"
