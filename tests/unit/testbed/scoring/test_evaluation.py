"""Evaluations: which responders run which episodes, in which parts, reproducibly from a seed."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from relab.testbed.chaos.faults.catalogue import FAULTS
from relab.testbed.scoring.episodes import EPISODE_FAULTS, EpisodeKind, WrongEpisodeError
from relab.testbed.scoring.evaluation import (
    COMPARED,
    FURTHER,
    HEALTHY,
    MEASURED,
    OURS,
    WITH_MODEL,
    EvaluationRequest,
    ModelAccess,
    parts_of,
    to_json,
    write,
)
from relab.testbed.scoring.responder import Bindings
from support.experiments.documents import read_config

WITHOUT = "RELAB_INCIDENTS__EXCLUDED_RUNBOOKS"


def test_all_responders_run_the_compared_episodes_and_the_measured_one_runs_all() -> None:
    compared, further, *unknown = parts_of(EvaluationRequest(episodes=100, compared=30, unknown=32, seed=5))
    assert list(compared.responders) == ["relab", "relab-with-memory", "do-nothing", "restart-only"]
    assert compared.name == COMPARED
    assert len(compared.episodes) == 30
    assert further.name == FURTHER
    assert len(further.episodes) == 70
    met = {episode.task_id for part in (compared, further) for episode in part.episodes}
    assert len(met) == 100
    assert list(further.responders) == [MEASURED]
    assert sum(len(part.episodes) for part in unknown) == 32


def test_each_cause_is_excluded_in_one_part() -> None:
    parts = parts_of(EvaluationRequest(episodes=0, compared=0, unknown=len(EPISODE_FAULTS), seed=9))
    met = []
    for part in parts:
        (bindings,) = part.responders.values()
        without = json.loads(bindings.responder_environment[WITHOUT])
        causes = [FAULTS[event.name].cause for episode in part.episodes for event in episode.faults]
        assert set(causes) <= set(without)
        assert len(without) in {3, 4}
        assert {episode.kind for episode in part.episodes} == {EpisodeKind.FAULT}
        met += causes
    assert sorted(met) == sorted(FAULTS[name].cause for name in EPISODE_FAULTS)


def test_few_unknown_episodes_are_spread_over_the_groups() -> None:
    parts = parts_of(EvaluationRequest(episodes=0, compared=0, unknown=3))
    assert [len(part.episodes) for part in parts] == [1, 1, 1]
    assert len({episode.subject for part in parts for episode in part.episodes}) == 3


def test_given_responder_replaces_ours() -> None:
    theirs = Bindings(responder_command=["theirs"])
    (compared,) = parts_of(EvaluationRequest(episodes=4, compared=4, responders={"theirs": theirs}))
    assert list(compared.responders) == ["theirs", "do-nothing", "restart-only"]


def test_responder_with_a_model_differs_only_by_the_model_and_runs_the_compared_episodes(tmp_path: Path) -> None:
    access = ModelAccess(
        {"RELAB_INCIDENTS__ASK_MODEL": "always"}, passes=["HTTPS_PROXY"], secrets=["RELAB_OPENAI_API_KEY"]
    )
    wanted = EvaluationRequest(episodes=3, compared=2, unknown=0, model=access)
    parts = parts_of(wanted)
    compared, further = parts
    assert list(compared.responders) == ["relab", "relab-with-memory", WITH_MODEL, "do-nothing", "restart-only"]
    assert list(further.responders) == [MEASURED]
    modelled = compared.responders[WITH_MODEL]
    assert modelled.responder_command == OURS.responder_command
    assert modelled.keeps_home == OURS.keeps_home
    assert modelled.responder_environment == {**OURS.responder_environment, "RELAB_INCIDENTS__ASK_MODEL": "always"}

    write(tmp_path, parts, home=Path("/beds"), wanted=wanted)
    harness = {
        part.name: read_config(tmp_path / part.name / ".lab" / "experiment.yaml").runtime.harness for part in parts
    }
    assert harness[COMPARED].environment.passed == ["HTTPS_PROXY"]
    assert harness[COMPARED].secrets == ["RELAB_OPENAI_API_KEY"]
    # A part without a model gets no key.
    assert harness[FURTHER].environment.passed == []
    assert harness[FURTHER].secrets == []


def test_healthy_episodes_are_noisy_and_use_another_seed() -> None:
    wanted = EvaluationRequest(episodes=20, compared=5, unknown=0, healthy=12, seed=3)
    *known, healthy = parts_of(wanted)
    assert healthy.name == HEALTHY
    assert list(healthy.responders) == [MEASURED]
    assert len(healthy.episodes) == 12
    for episode in healthy.episodes:
        assert episode.kind == EpisodeKind.NOISY
        assert episode.faults == ()
        assert len(episode.noise) >= 2
    seeds = {episode.seed for part in known for episode in part.episodes}
    assert not seeds & {episode.seed for episode in healthy.episodes}
    (alone,) = parts_of(EvaluationRequest(episodes=0, compared=0, unknown=0, healthy=12, seed=3))
    assert alone == healthy
    theirs = {"theirs": Bindings(responder_command=["theirs"])}
    assert list(parts_of(EvaluationRequest(episodes=0, compared=0, healthy=1, responders=theirs))[0].responders) == [
        "theirs"
    ]


def test_parts_are_reproducible_from_a_seed_and_differ_between_seeds() -> None:
    assert parts_of(EvaluationRequest(seed=3)) == parts_of(EvaluationRequest(seed=3))
    assert parts_of(EvaluationRequest(seed=3))[0].episodes != parts_of(EvaluationRequest(seed=4))[0].episodes


def test_invalid_counts_are_rejected() -> None:
    with pytest.raises(WrongEpisodeError, match="4 of 3"):
        parts_of(EvaluationRequest(episodes=3, compared=4))
    with pytest.raises(WrongEpisodeError, match="-1"):
        parts_of(EvaluationRequest(healthy=-1))
    with pytest.raises(WrongEpisodeError, match="no_such_fault"):
        parts_of(EvaluationRequest(episodes=1, compared=1, faults=["no_such_fault"]))


def test_each_part_is_written_as_a_valid_experiment(tmp_path: Path) -> None:
    wanted = EvaluationRequest(episodes=6, compared=2, unknown=2, concurrency=2)
    parts = parts_of(wanted)
    write(tmp_path, parts, home=Path("/beds"), wanted=wanted, port_base=24_000)
    for part in parts:
        config = read_config(tmp_path / part.name / ".lab" / "experiment.yaml")
        assert [variant.variant_id for variant in config.variants] == list(part.responders)
        for variant in config.variants:
            assert Bindings.read(variant.bindings) == part.responders[variant.variant_id]
        assert config.design.max_concurrency == min(2, len(part.episodes))
    document = json.loads(json.dumps(to_json(wanted, parts)))
    assert [part["episodes"] for part in document["parts"]] == [2, 4, 1, 1]
