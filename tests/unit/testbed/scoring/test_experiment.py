"""The experiment that measures responders: a valid document for `lab run`, and errors of its harness."""

from __future__ import annotations

import json
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from relab.experiments.plan.dataset import index_tasks
from relab.testbed.scoring import __main__, experiment
from relab.testbed.scoring.episodes import Episode, WrongEpisodeError, make_episodes
from relab.testbed.scoring.experiment import BASELINES, experiment_document, write_experiment
from relab.testbed.scoring.responder import Bindings
from support.experiments.documents import read_config

IDS = {"run_id": "r", "trial_id": "t", "variant_id": "v", "task_id": "e", "repl_idx": 0}


def test_document_is_a_valid_experiment(tmp_path: Path) -> None:
    episodes = make_episodes(12, 4)
    document = experiment_document(
        BASELINES, episodes, home=Path("/beds"), port_base=24_000, concurrency=2, seed=4, hides=[Path("/somewhere")]
    )
    path = write_experiment(tmp_path, document, episodes)

    config = read_config(path)
    assert [variant.variant_id for variant in config.variants] == ["do-nothing", "restart-only"]
    for variant in config.variants:
        assert Bindings.read(variant.bindings) == BASELINES[variant.variant_id]
        assert variant.bindings["port_base"] == 24_000
        assert variant.bindings["hides"] == ["/somewhere"]
    assert config.design.max_concurrency == 2
    longest_s = max(episode.healthy_s + episode.timeout_s for episode in episodes)
    assert config.runtime.timeouts.trial_seconds is not None
    assert config.runtime.timeouts.trial_seconds > longest_s

    tasks = index_tasks((path.parent / config.dataset.path).resolve())
    assert [Episode.from_row(tasks.read(number).payload) for number in range(len(tasks))] == episodes


def test_experiment_needs_a_responder_and_an_episode() -> None:
    for responders, episodes in (({}, make_episodes(1, 1)), (BASELINES, [])):
        with pytest.raises(WrongEpisodeError, match="at least one"):
            experiment_document(responders, episodes, home=Path("/beds"))


def test_command_writes_the_experiment(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = [
        str(tmp_path / "e"), "--home", "/beds", "--episodes", "3", "--fault", "hang", "--fault", "db_down",
        "--responder", "mine=python3 'my responder.py'",
    ]  # fmt: skip
    assert experiment.main(arguments) == 0
    config = read_config(Path(capsys.readouterr().out.strip()))
    assert config.variants[-1].bindings["responder_command"] == ["python3", "my responder.py"]

    assert experiment.main([*arguments, "--responder", "nameless"]) == 1
    told = capsys.readouterr()
    assert "NAME=COMMAND" in told.err
    assert told.out == ""


@pytest.fixture
def handlers() -> Iterator[None]:
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.parametrize(
    ("trial", "kind"),
    [
        ({"task": {"task_id": "e"}, "bindings": {"responder_command": ["x"]}}, "wrong_episode"),
        ({"task": make_episodes(1, 1)[0].to_row(), "bindings": {}}, "wrong_bindings"),
        ({"task": make_episodes(1, 1)[0].to_row(), "bindings": {"responder_command": ["x"]}}, "wrong_trial"),
    ],
)
@pytest.mark.usefixtures("handlers")
def test_invalid_trial_is_an_error_without_a_result(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, trial: dict[str, Any], kind: str
) -> None:
    monkeypatch.delenv("RELAB_HOME", raising=False)
    given, made = tmp_path / "trial_input.json", tmp_path / "trial_output.json"
    given.write_text(json.dumps({"ids": IDS, **trial}))
    code = __main__.main(["--input", str(given), "--output", str(made)])
    output = json.loads(made.read_bytes())
    assert code == 0
    assert output["outcome"] == "error"
    assert output["error"]["error_type"] == kind
    assert output["ids"] == IDS


@pytest.mark.usefixtures("handlers")
def test_exception_in_the_harness_is_an_error_outcome_with_its_message(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise ZeroDivisionError("nobody has thought of it")

    monkeypatch.setattr(__main__, "run_trial", fail)
    given, made = tmp_path / "trial_input.json", tmp_path / "trial_output.json"
    given.write_text(json.dumps({"ids": IDS, "task": {}, "bindings": {}}))
    assert __main__.main(["--input", str(given), "--output", str(made)]) == 0
    output = json.loads(made.read_bytes())
    assert output["outcome"] == "error"
    assert output["ids"] == IDS
    assert output["error"] == {"error_type": "harness_failed", "message": "ZeroDivisionError: nobody has thought of it"}


@pytest.mark.usefixtures("handlers")
def test_invalid_input_ends_without_an_output(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    given, made = tmp_path / "in.json", tmp_path / "out.json"
    given.write_text("[]")
    assert __main__.main(["--input", str(given), "--output", str(made)]) == 1
    assert "trial_input_v1" in capsys.readouterr().err
    assert not made.exists()


def test_command_of_a_responder_with_an_open_quotation_is_rejected(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given = [str(tmp_path / "e"), "--home", str(tmp_path), "--responder", "mine='x"]

    assert experiment.main(given) == 1
    assert "cannot be read" in capsys.readouterr().err
