"""The data of evaluations: its location by option, environment or default, and rejection of incomplete copies."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from evals.datasets import tau_bench
from evals.datasets.source import PROJECT_ROOT, MissingDataError, bodies, find_data
from evals.real_data import EXIT_USAGE, main


def test_the_option_beats_the_environment(tmp_path: Path) -> None:
    option, variable = tmp_path / "option", tmp_path / "variable"
    option.mkdir()
    variable.mkdir()
    assert find_data(option, {"RELAB_DATA": str(variable)}) == option
    assert find_data(None, {"RELAB_DATA": str(variable)}) == variable


def test_the_default_lies_beside_the_project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    project = tmp_path / "project"
    (tmp_path / "shared" / "data").mkdir(parents=True)
    monkeypatch.setattr("evals.datasets.source.PROJECT_ROOT", project)
    assert find_data(None, {}) == tmp_path / "shared" / "data"
    assert (PROJECT_ROOT / "pyproject.toml").is_file()


def test_missing_data_is_a_usage_error_that_names_the_remedy(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["--dry-run", "--data", str(tmp_path / "nowhere")]) == EXIT_USAGE
    assert "Pass --data DIR or set RELAB_DATA" in " ".join(capsys.readouterr().err.split())


def test_a_copy_that_lacks_runs_is_refused(tmp_path: Path) -> None:
    folder = tmp_path / tau_bench.NAME
    folder.mkdir()
    record = {"task_id": 0, "trial": 0, "reward": 1.0, "traj": [{"role": "assistant", "content": "hi"}]}
    (folder / "gpt-4o-airline.json").write_text(json.dumps([record]))
    with pytest.raises(MissingDataError, match="1 runs, not the 200"):
        bodies(tau_bench.SOURCE, tmp_path)
