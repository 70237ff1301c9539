"""The order in which trials start and are recorded, tested with executors that start no processes."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import pytest

from relab.experiments.errors import RunBusyError, TrialStopped
from relab.experiments.executors.local import LocalExecutor
from relab.experiments.models import LOCAL_EXECUTOR, Command, ErrorType, RunOptions, StopSwitch, TrialResult
from relab.experiments.plan.trials import Trial
from relab.experiments.records.journal import Journal
from relab.experiments.scheduling import PlanRunner
from relab.experiments.service import ExperimentService
from relab.experiments.trial.rows import skipped_trial
from rig.waiting import wait_until
from support.clocks import MovableClock
from support.experiments.benches import Bench, Benches
from support.experiments.projects import Project

TIMEOUT_S = 30.0


class Answering:
    """An executor whose trials end as the test's `submit` function decides."""

    capacity = 2

    def __init__(self, submit: Callable[[Trial, Future[TrialResult]], None]) -> None:
        self._submit = submit

    def submit(self, trial: Trial) -> Future[TrialResult]:
        future: Future[TrialResult] = Future()
        self._submit(trial, future)
        return future


@pytest.fixture
def benches(tmp_path: Path) -> Iterator[Benches]:
    made = Benches(LOCAL_EXECUTOR, tmp_path)
    yield made
    made.close()


def schedule(bench: Bench, executor: Any, journal: Journal) -> PlanRunner:
    tasks, plan = bench.resolved.tasks, bench.resolved.plan
    return PlanRunner(bench.context, plan, tasks, executor, journal, journal.open(), lambda *_: None)


def result_of(bench: Bench, trial: Trial) -> TrialResult:
    return skipped_trial(bench.resolved.config, trial, ErrorType.PRUNED, "as the test says")


def test_result_is_recorded_before_the_remaining_trials_of_a_pruned_variant(benches: Benches) -> None:
    bench = benches.open(
        "answer()\n",
        tasks=20,
        variant_plan=[{"variant_id": "worse", "bindings": {"meet": "x"}}],
        design={"policies": {"pruning": {"max_consecutive_failures": 1}}, "random_seed": 1},
    )
    order: list[str] = []
    journal = Journal(bench.run_dir)

    def submit(trial: Trial, future: Future[TrialResult]) -> None:
        order.append(f"submitted trial_{trial.number}")
        future.set_result(result_of(bench, trial))

    tasks, plan = bench.resolved.tasks, bench.resolved.plan
    runner = PlanRunner(
        bench.context, plan, tasks, Answering(submit), journal, journal.open(),  # type: ignore[arg-type]
        lambda result, _: order.append(f"recorded {result.row.trial_id}"),
    )  # fmt: skip
    row = {**result_of(bench, bench.trial(1)).row.to_json(), "variant_id": "worse", "success": False}
    runner.count_finished({"row": row})
    runner.run(StopSwitch())
    journal.close()

    submitted = [line.removeprefix("submitted ") for line in order if line.startswith("submitted")]
    assert len(submitted) >= 1
    for trial_id in submitted:
        assert order.index(f"recorded {trial_id}") == order.index(f"submitted {trial_id}") + 1


def test_interruption_of_the_scheduler_stops_the_running_trials(benches: Benches) -> None:
    bench = benches.open("answer()\n", tasks=2)
    journal, stop, running = Journal(bench.run_dir), StopSwitch(), []

    def submit(_trial: Trial, future: Future[TrialResult]) -> None:
        if running:
            raise KeyboardInterrupt
        future.set_running_or_notify_cancel()

        def end() -> None:
            stop.now.wait(TIMEOUT_S)
            future.set_exception(TrialStopped())

        running.append(threading.Thread(target=end))
        running[0].start()

    runner = schedule(bench, Answering(submit), journal)
    with pytest.raises(KeyboardInterrupt):
        runner.run(stop)
    was_stopped = stop.now.is_set()
    stop.now.set()
    running[0].join()
    journal.close()

    assert was_stopped


def test_rejected_continuation_leaves_the_trials_of_the_running_process_alone(tmp_path: Path) -> None:
    # The child is detached, so that it is adopted by the process of the run.
    harness = """
code = "import os, sys, time; open(sys.argv[1] + '/pid', 'w').write(str(os.getpid())); time.sleep(600)"
subprocess.run(["sh", "-c", f'"{sys.executable}" -c "$1" "$2"  &', "sh", code, bindings["meet"]])
wait_for(bindings["meet"] + "/go")
pid = int(Path(bindings["meet"], "pid").read_text())
try:
    os.kill(pid, 0)
    answer("success")
except ProcessLookupError:
    answer("failure")
"""
    project = Project.make(tmp_path, harness, tasks=1)
    project.configure(baseline={"variant_id": "control", "bindings": {"meet": str(tmp_path)}})
    service = ExperimentService(MovableClock(), environment={})
    options = RunOptions(command=Command.RUN)
    resolved = service.runs.prepare(project.experiment, options)
    outcomes: list[str] = []

    def run() -> None:
        service.runs.run(resolved, options, StopSwitch(), lambda result, _: outcomes.append(result.row.outcome.value))

    thread = threading.Thread(target=run)
    thread.start()
    wait_until(lambda: (tmp_path / "pid").exists() and (tmp_path / "pid").read_text(), what="the child")
    (run_dir,) = project.runs()
    with pytest.raises(RunBusyError):
        service.runs.continue_run(run_dir, StopSwitch(), lambda *_: None)
    (tmp_path / "go").touch()
    thread.join(TIMEOUT_S)

    assert outcomes == ["success"]


def test_executor_releases_its_sandbox_though_the_wait_for_trials_is_interrupted(
    benches: Benches, monkeypatch: pytest.MonkeyPatch
) -> None:
    executor = benches.open("answer()\n", tasks=1).executor
    assert isinstance(executor, LocalExecutor)
    closed: list[bool] = []

    def interrupted(*_args: Any, **_options: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(executor._sandbox, "close", lambda: closed.append(True))
    with monkeypatch.context() as patched:
        patched.setattr(executor._threads, "shutdown", interrupted)
        with pytest.raises(KeyboardInterrupt):
            executor.close()

    assert closed == [True]
