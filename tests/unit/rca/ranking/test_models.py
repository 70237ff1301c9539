"""Trained ranking models: training, the artefact, and the recognition of sources."""

from __future__ import annotations

import json
import random
from functools import cache
from typing import Any, cast

import pytest
from hypothesis import given

from relab.rca.analyzer import analyze
from relab.rca.errors import RankingModelError
from relab.rca.labels.models import LabelledRun, RunLabel
from relab.rca.labels.ranking_models import RankingModelKeeper
from relab.rca.models import AttributionBasis, Confidence
from relab.rca.ranking import RankingModels, TrainingRun, shipped_models, train
from relab.rca.ranking.fitting import MAX_WORDS, _words, examples_of
from relab.telemetry.models import AgentRun
from support.rca.verbatim import verify_verbatim
from support.telemetry.runs import examples, minimal_run, step, tool_call
from unit.rca.builders import agent_run
from unit.rca.test_properties import RUNS

TEAM = ("Planner", "Miner", "Checker", "Smelter")
STEPS = 6


def conversation(number: int, *, speakers: tuple[str, ...] = TEAM) -> tuple[AgentRun, str]:
    """Return a failed run of a team, and the id of the step that states unsupported numbers."""
    draw = random.Random(number)
    wrong = draw.randrange(1, STEPS)
    steps = [
        step(
            f"s{index}",
            index,
            name=speakers[index % len(speakers)],
            agent_name=speakers[index % len(speakers)],
            output_summary=f"The total must be {draw.randrange(1_000, 9_999)} and {draw.randrange(1_000, 9_999)}."
            if index == wrong
            else f"We look at part {index} of the ore and go on with the work.",
        )
        for index in range(STEPS)
    ]
    return AgentRun.model_validate(minimal_run(f"run-{number}", status="failure", steps=steps)), f"s{wrong}"


def labelled(count: int) -> list[TrainingRun]:
    return [TrainingRun(run, run.run_id, step_id) for run, step_id in map(conversation, range(count))]


@cache
def trained() -> RankingModels:
    return RankingModels(sources=(train(labelled(16), source="mine"),))


def test_a_trained_model_ranks_the_wrong_step_of_an_unseen_run_first() -> None:
    fresh = [conversation(number) for number in range(1_000, 1_020)]
    right = sum(analyze(run, models=trained()).candidates[0].step_id == wrong for run, wrong in fresh)
    assert right >= 16


def test_a_guess_of_a_known_source_has_a_probability_and_its_measured_hit_rate() -> None:
    report = analyze(conversation(1_000)[0], models=trained())
    assert report.attribution is not None
    odds = report.attribution.odds
    assert odds is not None
    assert odds.probability > 0.5
    assert 0 < odds.right <= odds.all


def test_guess_of_a_trained_model_has_low_confidence() -> None:
    place = analyze(conversation(1_000)[0], models=trained()).attribution
    assert place is not None
    assert (place.basis, place.confidence) == (AttributionBasis.RANKED_GUESS, Confidence.LOW)


def test_report_names_the_decisive_features() -> None:
    report = analyze(conversation(1_000)[0], models=trained())
    assert any("numbers" in reason for reason in report.candidates[0].reasons)


def test_a_run_of_another_source_is_ranked_by_rules_without_a_probability() -> None:
    other, _ = conversation(1, speakers=("Baker", "Butcher", "Farmer", "Judge"))
    report = analyze(other, models=trained())
    assert report.attribution is not None
    assert report.attribution.odds is None
    assert report == analyze(other, models=RankingModels())


@pytest.mark.full
def test_names_that_every_framework_uses_identify_no_source() -> None:
    names = ("user", "assistant", "tool", "system")
    runs = [conversation(number, speakers=names) for number in range(20)]
    model = train([TrainingRun(run, run.run_id, wrong) for run, wrong in runs], source="generic")
    assert analyze(runs[0][0], models=RankingModels(sources=(model,))).candidates[0].odds is None


@pytest.mark.full
def test_the_name_of_the_agent_identifies_the_source_if_it_is_given() -> None:
    model = train(labelled(20), source="mine", agents=["shop-agent"])
    other, _ = conversation(1, speakers=("Baker", "Butcher", "Farmer", "Judge"))
    assert analyze(other, models=RankingModels(sources=(model,))).candidates[0].odds is not None


def test_a_run_far_longer_than_the_training_runs_is_of_no_known_source() -> None:
    run, _ = conversation(1)
    long = run.model_copy(
        update={
            "steps": [
                item.model_copy(update={"step_id": f"{item.step_id}-{n}"}) for n in range(20) for item in run.steps
            ]
        }
    )
    assert analyze(long, models=trained()).candidates[0].odds is None


@pytest.mark.full
def test_the_same_labels_give_the_same_model() -> None:
    assert train(labelled(12), source="mine") == train(labelled(12), source="mine")


def test_words_with_equal_counts_are_chosen_by_the_alphabet() -> None:
    names = [f"{first}{second}x" for first in "abcdefgh" for second in "abcdefgh"]
    run = agent_run(steps=[step(f"s{number}", number, name=name) for number, name in enumerate(names)])

    assert _words(examples_of([TrainingRun(run, "task")], with_calls=False)) == sorted(names)[:MAX_WORDS]


def test_labels_of_steps_with_steps_inside_do_not_keep_other_agents_from_training() -> None:
    run = agent_run(steps=[step("outer", 0), step("inner", 1, parent_step_id="outer")])
    label = RunLabel(run_id="r", content_hash="h", labelled_by="ada", labelled_at=0, step_id="outer")

    class Labels:
        def labelled_runs(self) -> list[LabelledRun]:
            return [LabelledRun(label, run)] * 10

    keeper = RankingModelKeeper(cast("Any", None), cast("Any", None), cast("Any", Labels()))

    with pytest.raises(RankingModelError, match="at most 0 runs"):
        keeper.train()


def test_an_artefact_is_read_as_it_was_written() -> None:
    assert RankingModels.load(trained().dump()) == trained()


def test_too_few_labels_are_rejected_with_the_number_that_is_needed() -> None:
    with pytest.raises(RankingModelError, match="at least 10"):
        train(labelled(9), source="mine")


def test_labels_of_steps_that_the_run_does_not_have_do_not_count() -> None:
    with pytest.raises(RankingModelError, match="not enough"):
        train([TrainingRun(item.run, item.group, "nowhere") for item in labelled(20)], source="mine")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda data: data | {"format": 99}, "format 99"),
        (lambda data: data | {"sources": [{"source": "x"}]}, "sources"),
        (lambda data: data["sources"][0]["steps"]["columns"]["names"].__setitem__(0, "shoe_size") or data, "shoe_size"),
    ],
)
def test_an_artefact_of_another_version_is_rejected(change, words: str) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(RankingModelError, match=words):
        RankingModels.load(json.dumps(change(json.loads(trained().dump()))))


def test_bytes_that_are_not_an_artefact_are_rejected() -> None:
    with pytest.raises(RankingModelError):
        RankingModels.load(b"\x00 not JSON")


def test_a_new_model_of_a_source_replaces_the_old_one_and_comes_first() -> None:
    model = trained().sources[0]
    both = shipped_models().with_source(model).with_source(model.model_copy(update={"runs": 1}))
    assert next(item.source for item in both.sources) == "mine"
    assert [item.runs for item in both.sources if item.source == "mine"] == [1]


@pytest.mark.full
def test_model_trained_on_problems_finds_their_step_and_kind() -> None:
    runs = [(run, wrong) for run, wrong in map(conversation, range(40))]
    labels = [TrainingRun(run, run.run_id, problems=frozenset({(wrong, "invented_fact")})) for run, wrong in runs[:30]]
    models = RankingModels(sources=(train(labels, source="mine"),))
    for run, wrong in runs[30:]:
        found = [item for item in analyze(run, models=models).findings if item.detail == "invented_fact"]
        assert [item.step_id for item in found] == [wrong]
        assert found[0].basis is AttributionBasis.RANKED_GUESS


def test_each_shipped_model_has_a_card() -> None:
    for model in shipped_models().sources:
        assert {"data", "labels", "licence"} <= set(model.card)
        assert ("for steps a weighted mean of a conditional logit" in model.card["model"]) is (model.steps is not None)
        assert ("for each kind of problem the mean" in model.card["model"]) is (model.problems is not None)
        assert "60 boosted trees of depth 3" in model.card["model"]


@pytest.mark.parametrize(
    "text",
    [
        "",
        " ",
        "\x00\ufffd\x1b[31m" * 50,
        "数字 ١٢٣ числа ß 🚒 1,2.3'4\u20195",
        "1.1." * 250_000,
        "'a" * 500_000,
        "\n- " * 300_000,
        "<" * 1_000_000,
        "error: " * 150_000,
    ],
    ids=["empty", "blank", "binary", "languages", "dots", "quotes", "list", "tags", "errors"],
)
def test_any_text_gives_a_report_with_verbatim_evidence(text: str) -> None:
    steps = [step(f"s{n}", -n, name=TEAM[n % 4], output_summary=text, input_summary=text) for n in range(4)]
    run = agent_run(steps=steps, tool_calls=[tool_call("c", step_id="s1", result_summary=text)])
    report = analyze(run, models=trained())
    assert all(verify_verbatim(run, item) for item in report.evidence_index)


@given(run=RUNS)
@examples(30)
def test_any_run_of_a_known_source_gives_a_report_with_verbatim_evidence(run: AgentRun) -> None:
    (model,) = trained().sources
    known = model.model_copy(
        update={"signature": model.signature.model_copy(update={"agents": ("shop-agent",), "max_units": 100})}
    )
    report = analyze(run, models=RankingModels(sources=(known,)))
    assert all(verify_verbatim(run, item) for item in report.evidence_index)
