"""Features of steps: the counts of their texts, and which models read them."""

from __future__ import annotations

from relab.rca.evidence import RunView
from relab.rca.ranking.features import MANNERS, NAMES, features_of
from relab.rca.ranking.fitting import examples_of, train_on
from relab.rca.ranking.model import StepModel
from relab.rca.ranking.texts import code_numbers, count_of, is_promise
from relab.rca.ranking.training_runs import TrainingRun
from relab.rca.ranking.units import units_of
from relab.telemetry.models import AgentRun
from support.telemetry.runs import minimal_run, step


def a_run(*texts: str, number: int = 0) -> AgentRun:
    steps = [step(f"s{index}", index, output_summary=text) for index, text in enumerate(texts)]
    return AgentRun.model_validate(minimal_run(f"run-{number}", status="failure", steps=steps))


def features(*texts: str) -> list[dict[str, float]]:
    rows = features_of(units_of(RunView(a_run(*texts)), with_calls=False))
    return [dict(zip(NAMES, row, strict=True)) for row in rows]


def test_numbers_in_lists_of_code_are_counted() -> None:
    text = "Prices: (1, 2)\n```python\nprices = [20.5, 18]\nrange(3)\ncall(x, 7)\n```\nand [4, 5]"
    assert code_numbers(text) == (3, {"20.5", "18", "3", "7"})


def test_code_whose_fence_never_ends_is_code_to_the_end() -> None:
    assert code_numbers("```\nvalues = {'a': 1, 'b': 2}") == (2, {"1", "2"})
    assert code_numbers("no code: [1, 2]") == (0, set())


def test_each_word_with_a_listed_prefix_is_counted() -> None:
    assert count_of("checks", "verify, then verified: is it correct?") == 3
    assert count_of("by_hand", "open the page manually") == 1


def test_a_promise_has_neither_figures_nor_code() -> None:
    assert is_promise("i will check the page")
    found = features("the task", "I will check the page.", "I will: it is 1,234.", "I will:\n```\nrun()\n```")
    assert [row["promises"] for row in found] == [0, 1, 0, 0]


def test_numbers_in_code_are_new_only_at_their_first_mention() -> None:
    found = features("the task has 20 parts", "```\nx = [20, 30]\n```", "```\nx = [20, 30]\n```")
    assert found[1]["code_new_numbers"] > 0 == found[2]["code_new_numbers"]
    assert found[1]["written_data"] == found[2]["written_data"] > 0


def test_models_of_problems_do_not_read_the_features_of_step_models() -> None:
    labelled = [
        TrainingRun(
            a_run("the task", f"it is {index}00", "the end", number=index),
            f"group-{index}",
            "s1",
            frozenset({("s1", "invented_fact")}),
        )
        for index in range(12)
    ]
    model = train_on(examples_of(labelled, with_calls=False), source="mine")
    assert model.steps is not None
    assert model.problems is not None
    assert set(model.steps.columns.names) >= MANNERS
    assert MANNERS.isdisjoint(model.problems.columns.names)


def test_model_of_an_older_version_weights_the_logit_and_the_trees_equally() -> None:
    assert StepModel.model_fields["linear_weight"].default == 0.5
