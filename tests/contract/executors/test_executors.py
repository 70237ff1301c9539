"""Executors of each kind: each trial has one result, also after errors and stops, and errors name their cause."""

from __future__ import annotations

import json
import pickle
import sys
from concurrent.futures import ThreadPoolExecutor, as_completed, wait
from pathlib import Path

import pytest

from relab.experiments.errors import ExecutorUnavailableError, ExperimentInvalidError, TrialStopped
from relab.experiments.executors.protocol import ExecutorOptions
from relab.experiments.executors.ray_connection import connect
from relab.experiments.executors.registry import EXECUTORS, ExecutorKind, make_executor
from relab.experiments.models import LOCAL_EXECUTOR, RAY_EXECUTOR, ErrorType, RunOptions, TrialOutcome
from rig.waiting import wait_until
from support.experiments.benches import Benches

TIMEOUT_S = 60
FIRST_ENDS_LAST = """
folder = Path(bindings["meet"])
(folder / ids["trial_id"]).touch()
if ids["trial_id"] == "trial_1":
    wait_for(folder / "trial_2.ended")
else:
    wait_for(folder / "trial_1")
    (folder / "trial_2.ended").touch()
answer(metrics={"number": float(ids["trial_id"].removeprefix("trial_"))})
"""
COUNTS = """
state = Path(paths["state"], "count")
count = int(state.read_text()) + 1 if state.exists() else 1
state.write_text(str(count))
Path("count").write_text(str(count))
answer(metrics={"count": count})
"""


def test_each_trial_has_one_result_in_any_order(benches: Benches, tmp_path: Path) -> None:
    bench = benches.open(
        FIRST_ENDS_LAST,
        tasks=2,
        design={"max_concurrency": 2},
        baseline={"variant_id": "control", "bindings": {"meet": str(tmp_path)}},
    )
    futures = [bench.executor.submit(bench.trial(number)) for number in (1, 2)]

    results = [future.result() for future in as_completed(futures, TIMEOUT_S)]

    assert {result.row.trial_id for result in results} == {"trial_1", "trial_2"}
    for result in results:
        assert result.row.outcome is TrialOutcome.SUCCESS
        assert result.row.metrics["number"] == float(result.row.trial_id.removeprefix("trial_"))
        assert result.entry["row"] == result.row.to_json()
        assert result.agent_run is not None


def test_no_more_trials_run_than_the_capacity(benches: Benches, tmp_path: Path) -> None:
    harness = """
folder = Path(bindings["meet"])
with (folder / "log").open("a") as log:
    print("begin", file=log, flush=True)
    time.sleep(0.1)
    print("end", file=log, flush=True)
answer()
"""
    bindings = {"variant_id": "control", "bindings": {"meet": str(tmp_path)}}
    bench = benches.open(harness, tasks=6, design={"max_concurrency": 2}, baseline=bindings)
    assert bench.executor.capacity == 2

    wait([bench.executor.submit(bench.trial(number)) for number in range(1, 7)], TIMEOUT_S)

    lines = (tmp_path / "log").read_text().splitlines()
    assert sorted(lines) == ["begin"] * 6 + ["end"] * 6
    running = most = 0
    for line in lines:
        running += 1 if line == "begin" else -1
        most = max(most, running)
    assert most <= 2


def test_harness_that_fails_is_a_result_and_no_exception(benches: Benches) -> None:
    bench = benches.open("sys.exit(3)\n", tasks=1)

    result = bench.executor.submit(bench.trial(1)).result(TIMEOUT_S)

    assert result.row.outcome is TrialOutcome.ERROR
    assert result.row.error_type == ErrorType.HARNESS_PROCESS
    assert result.row.exit_code == 3


def test_trial_continues_from_the_previous_trial(benches: Benches) -> None:
    bench = benches.open(
        COUNTS, tasks=3, design={"policies": {"state": "accumulate"}, "sanitization_profile": "hermetic_functional"}
    )
    counts = []
    previous = None
    for number in (1, 2):
        trial = bench.trial(number, previous)
        result = bench.executor.submit(trial).result(TIMEOUT_S)
        assert result.row.outcome is TrialOutcome.SUCCESS, result.row.error_message
        counts.append(result.row.metrics["count"])
        previous = result.row.trial_id
    fresh = bench.executor.submit(bench.trial(3)).result(TIMEOUT_S)

    assert counts == [1, 2]
    assert fresh.row.metrics["count"] == 1


def test_trial_and_result_can_be_pickled(benches: Benches) -> None:
    bench = benches.open("answer()\n", tasks=1)
    trial = bench.trial(1)

    result = bench.executor.submit(pickle.loads(pickle.dumps(trial))).result(TIMEOUT_S)

    assert pickle.loads(pickle.dumps(trial)) == trial
    assert pickle.loads(pickle.dumps(result)) == result
    assert json.loads(json.dumps(result.entry))["row"]["trial_id"] == "trial_1"


def test_stopped_run_starts_no_trial(benches: Benches) -> None:
    bench = benches.open("answer()\n", tasks=1)
    bench.stop.press()

    with pytest.raises(TrialStopped):
        bench.executor.submit(bench.trial(1)).result(TIMEOUT_S)
    assert not (bench.run_dir / "trials").exists()


def test_second_stop_ends_the_running_trial_without_a_result(benches: Benches, tmp_path: Path) -> None:
    harness = 'Path(bindings["meet"], "started").touch()\ntime.sleep(1000)\n'
    bench = benches.open(harness, tasks=1, baseline={"variant_id": "control", "bindings": {"meet": str(tmp_path)}})
    future = bench.executor.submit(bench.trial(1))
    wait_until((tmp_path / "started").exists)

    bench.stop.press()
    bench.stop.press()

    with pytest.raises(TrialStopped):
        future.result(TIMEOUT_S)


def test_setup_command_changes_the_snapshot_of_all_trials(benches: Benches) -> None:
    bench = benches.open("answer()\n", tasks=1)
    snapshot = bench.executor.run_setup("echo made > made.txt", bench.context.snapshot)

    assert (snapshot.root / "made.txt").read_text() == "made\n"
    assert snapshot.manifest.digest != bench.context.snapshot.manifest.digest


def test_setup_command_that_fails_is_an_error_with_its_output(benches: Benches) -> None:
    bench = benches.open("answer()\n", tasks=1)

    with pytest.raises(ExperimentInvalidError, match="no such package"):
        bench.executor.run_setup("echo no such package >&2; exit 1", bench.context.snapshot)


def test_second_stop_ends_the_setup_command(benches: Benches, tmp_path: Path) -> None:
    bench = benches.open("answer()\n", tasks=1)
    started = tmp_path / "started"
    with ThreadPoolExecutor(1) as pool:
        made = pool.submit(bench.executor.run_setup, f"touch {started}; sleep 1000", bench.context.snapshot)
        wait_until(started.exists)

        bench.stop.press()
        bench.stop.press()

        with pytest.raises(KeyboardInterrupt):
            made.result(TIMEOUT_S)


def test_executor_writes_no_journal(benches: Benches) -> None:
    bench = benches.open("answer()\n", tasks=1)

    bench.executor.submit(bench.trial(1)).result(TIMEOUT_S)

    assert not (bench.run_dir / "journal.jsonl").exists()


def test_executor_closes_twice_and_takes_no_trial_afterwards(benches: Benches) -> None:
    bench = benches.open("answer()\n", tasks=1)

    bench.executor.close()
    bench.executor.close()

    with pytest.raises(RuntimeError):
        bench.executor.submit(bench.trial(1))
    assert not (bench.run_dir / "trials").exists()


def test_missing_ray_is_named_with_the_command_that_installs_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)

    with pytest.raises(ExecutorUnavailableError, match=r"pip install 'relab\[ray\]'"):
        connect(None)


@pytest.mark.parametrize("address", ["ray://127.0.0.1:10001", "no port", "host:port", ""])
def test_address_of_another_form_is_rejected(address: str) -> None:
    with pytest.raises(ExperimentInvalidError, match="HOST:PORT"):
        connect(address)


def test_local_executor_has_no_address(tmp_path: Path) -> None:
    with pytest.raises(ExperimentInvalidError, match="--address"):
        Benches(LOCAL_EXECUTOR, tmp_path, "127.0.0.1:6379").open("answer()\n")


def test_address_is_rejected_for_every_executor_that_takes_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(EXECUTORS, "other", ExecutorKind(EXECUTORS[LOCAL_EXECUTOR].make))

    with pytest.raises(ExperimentInvalidError, match="The executor other has no address"):
        Benches("other", tmp_path, "127.0.0.1:6379").open("answer()\n")


def test_empty_address_is_rejected_and_not_replaced_by_the_environments(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RAY_ADDRESS", "127.0.0.1:1")

    with pytest.raises(ExperimentInvalidError, match="HOST:PORT, not ''"):
        Benches(RAY_EXECUTOR, tmp_path, "").open("answer()\n")


def test_default_executor_is_registered() -> None:
    assert RunOptions().executor == LOCAL_EXECUTOR
    assert LOCAL_EXECUTOR in EXECUTORS


def test_unknown_executor_is_rejected(benches: Benches) -> None:
    bench = benches.open("answer()\n", tasks=1)
    options = ExecutorOptions(settings=bench.context, stop=bench.stop, on_spans=lambda _body, _encoding: None)

    with pytest.raises(ExperimentInvalidError) as caught:
        make_executor("no-such", options)
    assert caught.value.code == "experiment_invalid"


def test_cached_result_equals_the_result_of_the_executor(benches: Benches, tmp_path: Path) -> None:
    harness = """
with Path(bindings["log"]).open("a") as log:
    print(ids["trial_id"], file=log)
Path("made.txt").write_text("made")
answer(metrics={"cost_usd": 2.0})
"""
    baseline = {"variant_id": "control", "bindings": {"log": str(tmp_path / "log")}}
    bench = benches.open(harness, tasks=1, baseline=baseline, runtime={"result_cache": {}})
    folder = bench.run_dir / "trials" / "trial_1"

    ran = bench.executor.submit(bench.trial(1)).result(TIMEOUT_S)
    files = {path.relative_to(folder) for path in folder.rglob("*")}
    cached = bench.executor.submit(bench.trial(1)).result(TIMEOUT_S)

    assert (tmp_path / "log").read_text().splitlines() == ["trial_1"]
    assert (ran.row.cached_from, cached.row.cached_from) == (None, f"{bench.context.run_id}.trial_1")
    assert cached.agent_run is None
    assert cached.row.started_at == ran.row.started_at
    assert {path.relative_to(folder) for path in folder.rglob("*")} == files
    assert (folder / "workspace" / "made.txt").read_text() == "made"
