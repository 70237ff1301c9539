"""The exit codes of `lab` for errors."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from relab.builds.errors import RlExtraMissingError
from relab.cli.main import main
from relab.cli.output import EXIT_INTERRUPTED, EXIT_USAGE, report_error
from relab.experiments.running import ExperimentRuns
from relab.rca.errors import NoJudgeError
from relab.rollouts.errors import RolloutStateError, TargetBusyError


def test_target_in_use_by_another_rollout_is_unavailable_and_not_a_failed_rollout(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert report_error(TargetBusyError("The flags are in use.", remedy="Wait.")) == 69
    assert "The flags are in use. Wait." in capsys.readouterr().err
    assert report_error(RolloutStateError("It is over.")) == 1


def test_training_without_the_extra_is_unavailable_and_not_a_failed_training(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert report_error(RlExtraMissingError()) == 69
    assert "pip install 'relab[rl]'" in capsys.readouterr().err


def test_missing_model_for_a_judge_is_unavailable(capsys: pytest.CaptureFixture[str]) -> None:
    assert report_error(NoJudgeError()) == 69
    assert "No language model is configured" in capsys.readouterr().err


def test_name_that_is_too_long_for_a_file_is_a_usage_error_without_a_traceback(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with pytest.raises(OSError, match="too long") as raised:
        Path("x" * 3_000).stat()

    assert report_error(raised.value) == EXIT_USAGE
    err = capsys.readouterr().err
    assert err.startswith("lab: A name is too long for a file: xxx")
    assert len(err) < 200


def test_removed_working_directory_is_a_usage_error_without_a_traceback(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    with pytest.raises(FileNotFoundError) as raised:
        Path.cwd()

    code = report_error(raised.value)

    monkeypatch.undo()
    assert code == EXIT_USAGE
    assert capsys.readouterr().err == (
        "lab: The working directory does not exist any more. Change to an existing folder, then try again.\n"
    )


@pytest.mark.parametrize(("options", "printed"), [((), False), (("--json",), True)])
def test_interrupted_command_prints_one_json_object_if_json_was_requested(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], options: tuple[str, ...], printed: bool
) -> None:
    def interrupted(*_arguments: object, **_options: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(ExperimentRuns, "describe", interrupted)
    monkeypatch.setattr("sys.argv", ["lab", "describe", *options])
    with pytest.raises(SystemExit) as ended:
        main()

    out = capsys.readouterr().out
    assert ended.value.code == EXIT_INTERRUPTED
    assert (json.loads(out)["error"]["code"] if printed else out) == ("interrupted" if printed else "")
