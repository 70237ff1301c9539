"""The runbook linter: conflicts between runbooks, unknown names, and weak or misleading content."""

from __future__ import annotations

from typing import Any

import pytest

from relab.knowledge.lint import Remark, Surroundings, Weight, alike, lint
from relab.knowledge.models import FactCondition, Operator, Runbook, RunbookAction
from relab.knowledge.reading import parse_runbook
from support.incidents.runbooks import TEXT, expects, runbook

MEND = RunbookAction("mend", {}, "")


def only(*runbooks: Runbook, around: Surroundings | None = None) -> Remark:
    (found,) = lint(runbooks, around)
    return found


def test_good_runbooks_have_no_findings() -> None:
    assert lint([runbook("one"), runbook("two")]) == []


@pytest.mark.parametrize(
    ("changed", "field", "said", "weight"),
    [
        ({"mended": ()}, "mended", "nothing can show that the cause is gone", Weight.ERROR),
        ({"mended": (), "actions": ()}, "mended", "nothing can show", Weight.WARNING),
        ({"actions": ()}, "actions", "a responder will escalate", Weight.WARNING),
        ({"actions": (MEND, MEND)}, "actions.1", "twice", Weight.ERROR),
        ({"symptoms": ("it is slow",)}, "symptoms.0", "too short", Weight.WARNING),
        ({"text": ""}, "text", "what a person should know", Weight.WARNING),
        ({"expects": (expects("a", 1, 0.9, 0.1), expects("b", 1, 0.5, 0.49))}, "expects.1", "no information", Weight.ERROR),
        ({"expects": (expects("a", 1, 0.9, 0.1), expects("b", 0, 0.9, 0.2))}, "expects.1", "always holds", Weight.ERROR),
        ({"expects": (expects("a", 1, 0.9, 0.1), expects("b", 1, 0.2, 0.6))}, "expects.1", "against", Weight.WARNING),
        ({"expects": (expects("a", 1, 0.9, 0.1),) * 2}, "expects.1", "twice", Weight.ERROR),
        ({"expects": (expects("a", 1, 0.9, 0.5),)}, "expects", "no condition points to the cause", Weight.WARNING),
    ],
)  # fmt: skip
def test_weak_points_of_one_runbook_are_reported(
    changed: dict[str, Any], field: str, said: str, weight: Weight
) -> None:
    found = [each for each in lint([runbook("one", **changed)]) if each.field == field]

    assert [each.source for each in found] == ["one.md"]
    assert said in found[0].message
    assert found[0].weight is weight


def test_two_runbooks_of_one_cause_are_reported() -> None:
    found = only(runbook("one"), runbook("one", source="other.md"))

    assert found.source == "other.md"
    assert found.field == "cause"
    assert "one.md has the cause 'one' too" in found.message


def test_causes_with_equal_conditions_are_reported() -> None:
    same = (expects("a", 5, 0.9, 0.1), expects("b", 5, 0.7, 0.2))
    near = (expects("a", 5, 0.8, 0.1), expects("b", 5, 0.6, 0.2))
    with_another = (*same, expects("c", 1, 0.9, 0.1))
    against = (*same[:1], expects("b", 5, 0.2, 0.7))

    assert alike(runbook("one", expects=same), runbook("two", expects=near))
    assert not alike(runbook("one", expects=same), runbook("two", expects=with_another))
    assert not alike(runbook("one", expects=same), runbook("two", expects=against))
    found = only(runbook("one", expects=same), runbook("two", expects=near))
    assert found.source == "one.md"
    assert found.weight == Weight.WARNING
    assert "same as two (two.md)" in found.message


def test_action_and_probe_names_are_checked_if_known() -> None:
    wrong = runbook("one", actions=(RunbookAction("mnd", {}, ""),), looks=("pol",))
    around = Surroundings(actions={"mend"}, looks={"pool": ("pool.used_pct",)}, facts=("one.signal",))

    assert lint([wrong]) == []
    assert [(each.field, each.message) for each in lint([wrong], around)] == [
        ("actions.0.action", "there is no action 'mnd' (did you mean 'mend'?)"),
        ("looks.0", "there is no look 'pol' (did you mean 'pool'?)"),
    ]
    far = lint([runbook("one", looks=("zzz",))], around)
    assert [each.message for each in far] == ["there is no look 'zzz'; there are pool"]


def test_conditions_must_name_facts_of_a_probe() -> None:
    book = runbook("a", expects=(expects("pool.used_pct", 1, 0.9, 0.1), expects("pool.used", 1, 0.9, 0.1)), mended=(FactCondition("host", Operator.IS, "x"),))  # fmt: skip

    def told(*facts: str) -> list[tuple[str, Weight]]:
        around = Surroundings(looks={"pool": facts}, facts=("host",))
        return [(each.field, each.weight) for each in lint([book], around)]

    assert told("pool.*") == []
    assert told("pool.used_pct") == [("expects.1.fact", Weight.WARNING)]


def test_finding_has_the_line_if_the_runbook_came_from_a_file() -> None:
    text = TEXT.replace("looks: [pool, database.sessions]", "looks:\n  - pool\n  - database.sesions")
    read = parse_runbook(text, "leak.md")
    around = Surroundings(looks={"pool": ("pool.*", "worker.name", "dependency.*"), "database.sessions": ()})

    found = only(read, around=around)

    assert found.place == f"leak.md:{text.splitlines().index('  - database.sesions') + 1}: looks.1"
    assert [each.place for each in lint([runbook("one", text="")])] == ["one.md: text"]
    (about_text,) = lint([parse_runbook(TEXT.partition("\n# What")[0], "leak.md")])
    assert about_text.place == f"leak.md:{TEXT.splitlines().index('# What to do')}: text"


def test_parameters_must_name_facts_of_a_probe() -> None:
    action = RunbookAction("mend", {"worker": "{workers.stopped}", "text": "{a.signal} and {host}", "n": 3}, "")
    book = runbook("a", actions=(action,), looks=("workers",))

    def fields(*facts: str) -> list[str]:
        around = Surroundings(looks={"workers": facts}, facts=("host",))
        return [each.message.partition(" ")[0] for each in lint([book], around) if each.weight is Weight.ERROR]

    assert lint([book]) == [], "what a look gives is not known"
    assert fields("workers.stopped") == fields("workers.*") == []
    assert fields("workers.silent") == ["{workers.stopped}"]
    without_looks = runbook("a", actions=(action,))
    assert [each.field for each in lint([without_looks])] == ["actions.0.parameters"] * 2


def test_condition_compares_values_of_the_same_type() -> None:
    is_three = FactCondition("n", Operator.IS, 3.0)

    assert is_three.holds({"n": 3}) is True, "a whole number may come as one"
    assert is_three.holds({"n": "3"}) is False
    assert FactCondition("n", Operator.IS, 1.0).holds({"n": True}) is False
    assert FactCondition("n", Operator.IS_NOT, True).holds({"n": 1.0}) is True
    assert FactCondition("n", Operator.AT_LEAST, 1.0).holds({"n": "much"}) is None
    assert is_three.holds({}) is None
