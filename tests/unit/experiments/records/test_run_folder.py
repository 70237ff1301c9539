"""The folder of a run: only one process holds it at a time, and changed inputs are detected."""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from relab.core.json import digest
from relab.experiments.errors import RunBusyError, RunChangedError, RunDamagedError, RunDiskFullError, RunNotFoundError
from relab.experiments.models import Keep
from relab.experiments.records import run_folder
from relab.experiments.records.file_names import LOCK, MANIFEST, RESOLVED, RUN_CONTROL
from relab.experiments.records.run_folder import RunFolder, begin_run, check_room, locked, new_run_id, open_run
from relab.experiments.results.run_metadata import read_facts
from support.experiments.configs import config

NOW_US = 1_767_225_600_000_000


@pytest.fixture
def run(tmp_path: Path) -> RunFolder:
    dataset = tmp_path / "tasks.jsonl"
    dataset.write_text('{"task_id": "a"}\n{"task_id": "b"}\n')
    experiment = config()
    from relab.experiments.plan.dataset import index_tasks

    manifest = {
        "schema_version": "manifest_v1",
        "run_id": "run_1",
        "resolved_experiment": {"digest": digest(experiment.resolved())},
        "ext": {"command": "run", "dataset_digest": index_tasks(dataset).digest},
    }
    return begin_run(tmp_path / "runs" / "run_1", "run_1", experiment, dataset, manifest)


def test_a_run_that_was_begun_is_found(run: RunFolder) -> None:
    found = open_run(run.path)

    assert found.run_id == "run_1"
    assert found.config.resolved() == run.config.resolved()
    assert found.digest == run.digest
    assert [found.tasks().read(number).task_id for number in range(2)] == ["a", "b"]
    assert (run.path / "resolved_experiment.digest").read_text() == run.digest + "\n"
    assert stat.S_IMODE(run.path.stat().st_mode) == 0o700
    with pytest.raises(FileExistsError):
        begin_run(run.path, "run_1", run.config, run.path / "dataset" / "tasks.jsonl", dict(run.manifest))


def test_run_that_an_earlier_version_accepted_stays_readable(run: RunFolder) -> None:
    # Earlier versions accepted white space in the address of a gateway.
    gateway = {"variable": "MODEL_URL", "upstream": "https://a.example/v1 ", "cache": None}
    resolved = json.loads((run.path / RESOLVED).read_bytes())
    resolved["runtime"] |= {"network": {"mode": "full", "allowed_hosts": []}, "model_gateways": [gateway]}
    (run.path / RESOLVED).write_text(json.dumps(resolved), encoding="utf-8")
    manifest = dict(run.manifest) | {"resolved_experiment": {"digest": digest(resolved)}}
    (run.path / MANIFEST).write_text(json.dumps(manifest), encoding="utf-8")

    assert open_run(run.path).config.runtime.model_gateways[0].place == ("a.example", 443)
    assert read_facts(run.path).config.runtime.model_gateways[0].variable == "MODEL_URL"


def test_folder_without_a_manifest_is_not_a_run(run: RunFolder, tmp_path: Path) -> None:
    for folder in (tmp_path / "none", tmp_path):
        with pytest.raises(RunNotFoundError, match=r"manifest\.json"):
            open_run(folder)
    (run.path / RESOLVED).unlink()
    with pytest.raises(RunNotFoundError, match=r"resolved_experiment\.json"):
        open_run(run.path)


@pytest.mark.parametrize(
    "text",
    ["", "[]", "{}", '"text"', "\xff", '{"run_id": "r", "resolved_experiment": 1}', '{"run_id": "r"}'],
)
def test_invalid_manifest_is_damage(run: RunFolder, text: str) -> None:
    (run.path / MANIFEST).write_text(text, encoding="latin-1")

    with pytest.raises(RunDamagedError, match=r"manifest\.json"):
        open_run(run.path)


def test_manifest_without_required_fields_is_damage(run: RunFolder) -> None:
    document = json.loads((run.path / MANIFEST).read_text())
    del document["ext"]
    (run.path / MANIFEST).write_text(json.dumps(document))

    with pytest.raises(RunDamagedError, match="'ext'"):
        open_run(run.path)


def test_a_changed_experiment_is_noticed(run: RunFolder) -> None:
    resolved = json.loads((run.path / RESOLVED).read_text())
    resolved["design"]["replications"] = 7
    (run.path / RESOLVED).write_text(json.dumps(resolved))
    with pytest.raises(RunDamagedError, match=r"resolved_experiment\.json was changed"):
        open_run(run.path)


def test_experiment_with_other_formatting_has_the_same_digest(run: RunFolder) -> None:
    resolved = json.loads((run.path / RESOLVED).read_text())
    (run.path / RESOLVED).write_text(json.dumps(dict(reversed(resolved.items())), indent=7))

    assert open_run(run.path).digest == run.digest


@pytest.mark.parametrize("text", ['{"task_id": "a"}\n', '{"task_id": "a"}\n{"task_id": "b"} \n'])
def test_a_changed_data_set_is_noticed(run: RunFolder, text: str) -> None:
    (run.path / "dataset" / "tasks.jsonl").write_text(text)

    with pytest.raises(RunChangedError) as caught:
        run.tasks()
    assert caught.value.code == "run_damaged"
    assert "tasks.jsonl" in caught.value.message


def holder(run: RunFolder) -> subprocess.Popen[str]:
    """Start a process that holds the lock of a run until its standard input is closed."""
    program = (
        "import sys, pathlib\n"
        "from relab.experiments.records.run_folder import locked\n"
        "with locked(pathlib.Path(sys.argv[1])):\n"
        "    print('held', flush=True)\n"
        "    sys.stdin.read()\n"
    )
    source = Path(run_folder.__file__).parents[3]
    process = subprocess.Popen(
        [sys.executable, "-c", program, str(run.path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(source)},
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    return process


def end(process: subprocess.Popen[str]) -> None:
    process.kill()
    process.wait()
    for stream in (process.stdin, process.stdout):
        if stream is not None:
            stream.close()


def test_lock_of_a_run_excludes_other_processes_and_ends_with_its_process(run: RunFolder) -> None:
    run.write_control("running", NOW_US)
    process = holder(run)
    try:
        assert run.status() == "running"
        with pytest.raises(RunBusyError), locked(run.path):
            pytest.fail("two processes hold one run")
        # The lock file still contains the id of the process that holds it.
        assert (run.path / LOCK).read_text() == str(process.pid)
    finally:
        end(process)

    assert run.status() == "interrupted"
    with locked(run.path):
        assert run.status() == "running"
        assert (run.path / LOCK).read_text() == str(os.getpid())
    assert run.status() == "interrupted"


def test_status_is_the_one_written_last(run: RunFolder) -> None:
    assert run.status() == "unknown"
    run.write_control("completed", NOW_US)
    document = json.loads((run.path / RUN_CONTROL).read_text())

    assert run.status() == "completed"
    assert document == {
        "schema_version": "run_control_v1",
        "run_id": "run_1",
        "status": "completed",
        "active_trial_id": None,
        "active_control_path": None,
        "updated_at": "2026-01-01T00:00:00Z",
    }


@pytest.mark.parametrize("text", ["", "[]", "{}", "7", "\x00"])
def test_unreadable_status_is_unknown(run: RunFolder, text: str) -> None:
    run.write_control("completed", NOW_US)
    (run.path / RUN_CONTROL).write_text(text)

    assert run.status() == "unknown"


def test_run_ids_contain_the_time() -> None:
    first, second = new_run_id(NOW_US), new_run_id(NOW_US)

    assert first.startswith("run_20260101_000000_")
    assert first != second


class _Usage(NamedTuple):
    total: int
    used: int
    free: int


@pytest.mark.parametrize(
    ("keep", "trials", "fits"),
    [
        (Keep.ALL, 10, True),
        (Keep.ALL, 100, False),
        (Keep.FAILED, 100, True),
        (Keep.NONE, 100, True),
        (Keep.NONE, 1_000_000, False),
    ],
)
def test_run_is_refused_if_the_disk_has_too_little_space(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, keep: Keep, trials: int, fits: bool
) -> None:
    mb = 1_048_576
    monkeypatch.setattr(shutil, "disk_usage", lambda _: _Usage(0, 0, run_folder.RESERVE + 1_000 * mb))
    arguments: dict[str, Any] = {"trials": trials, "at_once": 2, "snapshot_bytes": 50 * mb, "keep": keep}
    if fits:
        check_room(tmp_path, **arguments)
    else:
        with pytest.raises(RunDiskFullError, match=rf"{trials:,} trials need about [\d,]+ MB .* 1,256 MB are free"):
            check_room(tmp_path, **arguments)


def test_lock_waits_for_a_process_that_only_checks_it(run: RunFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    """`is_locked` holds a shared lock for a moment."""
    (run.path / LOCK).parent.mkdir()
    with (run.path / LOCK).open("w") as checking:
        fcntl.flock(checking, fcntl.LOCK_SH)
        monkeypatch.setattr(run_folder.time, "sleep", lambda _seconds: fcntl.flock(checking, fcntl.LOCK_UN))

        with locked(run.path):
            pass


def test_run_that_cannot_be_begun_leaves_no_folder(run: RunFolder, tmp_path: Path) -> None:
    path = tmp_path / "runs" / "run_2"

    with pytest.raises(FileNotFoundError):
        begin_run(path, "run_2", run.config, tmp_path / "no-tasks.jsonl", dict(run.manifest))

    assert not path.exists()
