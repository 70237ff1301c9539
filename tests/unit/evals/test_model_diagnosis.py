"""The comparison of rules and model, with scripted models: its mechanics, not the accuracy of a real model."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from evals.model_diagnosis import Episode, Row, compare, main, read, remembered, summary
from relab.knowledge.service import KnowledgeService
from relab.llm import LlmUnavailableError, ScriptedGateway
from relab.storage import Database
from support.incidents.modelled_cases import BOOKS, DOUBT, SURE, WELL, named
from support.incidents.runbooks import past
from support.storage.migrated import migrate

ALL_WELL = {fact: value for facts in WELL.values() for fact, value in facts.items()}


def doubtful(truth: str) -> Episode:
    return Episode(name=f"in doubt, {truth}", truth=truth, facts={**ALL_WELL, **DOUBT})


SURE_ONE = Episode(name="sure", truth="lock", facts={**ALL_WELL, **SURE})


def figure(rows: list[Row], what: str) -> int:
    return next(count for said, count, *_ in summary(rows) if said == what)


def test_rules_and_model_diagnose_the_same_episodes_and_are_counted() -> None:
    episodes = [doubtful("leak"), doubtful("spike"), SURE_ONE]
    rows = compare(episodes, BOOKS, named("spike", "traffic.rps"))
    assert [row.causes("rules")[0] for row in rows] == ["leak", "leak", "lock"]
    assert [row.causes("model") for row in rows] == [["spike"]] * 3
    # The model decides doubtful episodes; a sure one keeps the answer of the rules.
    assert [row.causes("both")[0] for row in rows] == ["spike", "spike", "lock"]
    assert figure(rows, "rules: right at 1") == 2
    assert figure(rows, "model: right at 1") == 1
    assert figure(rows, "both: right at 1") == 2
    assert figure(rows, "right with the model's word only") == 1
    assert figure(rows, "wrong with the model's word only") == 1
    assert figure(rows, "both: right at 3") == 3


def test_rejected_and_missing_answers_are_reported() -> None:
    answer = {"cause": "leak", "probability": 1.0, "evidence_ids": ["ev-made-up"], "looks": []}
    (refused,) = compare([doubtful("leak")], BOOKS, ScriptedGateway([answer]))
    (failed,) = compare([doubtful("leak")], BOOKS, ScriptedGateway([LlmUnavailableError("It is down.")]))
    assert refused.refusal == "unknown_evidence"
    assert refused.both == refused.rules
    assert failed.model is None
    assert failed.both == failed.rules
    assert figure([failed], "no answer of the model") == 1


def test_episodes_are_read_from_a_home_and_can_be_saved(tmp_path: Path) -> None:
    database = Database.open(f"sqlite:///{tmp_path / 'relab.db'}")
    migrate(database)
    knowledge = KnowledgeService(database, folder=None, home_folder=tmp_path / "knowledge")
    knowledge.remember(past("one", "database_lock", {**ALL_WELL, **SURE}, {"kind: <n>": 3}))
    knowledge.remember(past("two", "disk_full"))
    database.close()
    kept = tmp_path / "episodes.jsonl"
    assert main(["--home", str(tmp_path), "--save", str(kept)]) == 0
    # An episode without observations cannot be diagnosed, so it is left out.
    assert [item.name for item in remembered(tmp_path)] == ["one"]
    assert list(read(kept)) == list(remembered(tmp_path))
    assert json.loads(kept.read_text())["truth"] == "database_lock"


@pytest.mark.parametrize("given", [[], ["--model", "m"]])
def test_command_without_episodes_is_a_usage_error(given: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(given) == 64
    assert "--home" in capsys.readouterr().err
