"""The first read of a metric, rollouts that an early look ends, and rollouts during which the wall clock is set."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from relab.bootstrap import Services, build
from relab.rollouts.errors import TargetUnavailableError
from relab.rollouts.execution.progress import RolloutProgress
from relab.rollouts.models import Arm
from relab.rollouts.record import RolloutRecord, RolloutStatus
from relab.settings import load_settings
from relab.stats.verdicts import Verdict
from rig.servers import refusing_port
from support.clocks import MovableClock
from support.rollouts.plans import CONC_CAP, faster_b, small_plan
from support.rollouts.small_service import SmallService, small_service
from support.storage.migrated import migrate

DAY_S = 86_400


@dataclass
class Lab:
    """Services with a clock that the test sets, and one small service."""

    services: Services
    service: SmallService
    clock: MovableClock
    folder: Path
    progress: list[RolloutProgress]

    def run(self, *, is_dry_run: bool = False, **fields: Any) -> RolloutRecord:
        return self.services.rollouts.run(
            small_plan(self.service.url, self.folder, **fields),
            by="tester",
            stop=threading.Event(),
            on_progress=self.progress.append,
            root=self.folder,
            is_dry_run=is_dry_run,
        )

    def limit(self) -> int:
        return self.service.flags.control.max_concurrency

    def figures(self, *, a: float, b: float) -> dict[str, Any]:
        """Let the service report a figure for each arm, and return the fields of a plan that judges it."""
        reads = count()
        self.service.figures = lambda _path: {"figure": (b if self.limit() == CONC_CAP else a) + next(reads) % 3}
        metric = {"kind": "json", "url": f"{self.service.url}/figures?arm=$arm", "pointer": "/figure"}
        return {"subject": {"flags": {"kind": "service"}, "metric": metric}, "thresholds__max_error_rate": 5}


def metric_of(url: str, **fields: Any) -> dict[str, Any]:
    """Return the subject of a plan with the flags of the service and a metric at `url`."""
    return {"flags": {"kind": "service"}, "metric": {"kind": "json", "url": url, "pointer": "/p95", **fields}}


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[Lab]:
    clock = MovableClock(time.time_ns() // 1_000_000 * 1_000)
    services = build(load_settings(tmp_path / "home"), clock=clock)
    migrate(services.database)
    try:
        with small_service() as service:
            yield Lab(services, service, clock, tmp_path, [])
    finally:
        services.close()


def test_large_gain_ends_the_measurement_after_seven_rounds_and_is_applied(lab: Lab) -> None:
    record = lab.run(experiment__rounds=20, early_stop=True, **lab.figures(a=100.0, b=20.0))

    assert record.judgement is not None
    assert len(record.windows) == 14
    assert record.planned_windows == 40
    assert record.judgement.stopped_early
    assert record.judgement.verdict is Verdict.PASS
    assert "so the measurement can end" in (record.judgement.early_stop or "")
    assert lab.limit() == CONC_CAP


def test_harm_ends_the_measurement_after_three_rounds_and_is_not_applied(lab: Lab) -> None:
    record = lab.run(experiment__rounds=20, early_stop=True, **lab.figures(a=20.0, b=900.0))

    assert record.judgement is not None
    assert len(record.windows) == 6
    assert record.judgement.stopped_early
    assert record.judgement.verdict is Verdict.FAIL
    assert record.flags_restored
    assert lab.limit() == 32


def test_rollout_without_early_stop_measures_all_rounds_of_a_large_gain(lab: Lab) -> None:
    record = lab.run(experiment__rounds=8, **lab.figures(a=100.0, b=20.0))

    assert record.judgement is not None
    assert len(record.windows) == 16
    assert not record.judgement.stopped_early


@pytest.mark.parametrize("is_dry_run", [True, False])
def test_wrong_address_of_the_metric_is_found_before_the_first_change(lab: Lab, is_dry_run: bool) -> None:
    with refusing_port() as port, pytest.raises(TargetUnavailableError, match=f":{port}/figures does not answer"):
        lab.run(is_dry_run=is_dry_run, subject=metric_of(f"http://127.0.0.1:{port}/figures"))

    assert lab.service.changes == []


def test_dry_run_reads_the_metric_of_a_window_whose_figures_are_complete(lab: Lab) -> None:
    asked: list[str] = []
    lab.service.figures = asked.append
    url = f"{lab.service.url}/figures?$start_ms&$end_ms"

    record = lab.run(is_dry_run=True, subject=metric_of(url, delay_s=300), experiment__window_sec=2)

    end_ms = lab.clock.now_us() // 1_000 - 300_000
    assert asked == [f"/figures?{end_ms - 2_000}&{end_ms}"]
    assert record.status is RolloutStatus.DONE


@pytest.mark.parametrize("steps_s", [(-DAY_S, 2 * DAY_S), (DAY_S, -2 * DAY_S)])
def test_steps_of_the_wall_clock_do_not_end_a_rollout_or_its_lease(lab: Lab, steps_s: tuple[int, int]) -> None:
    steps, requests, lock = dict(zip((5, 40), steps_s, strict=True)), count(), threading.Lock()

    def step() -> None:
        with lock:
            lab.clock.move(steps.get(next(requests), 0))

    lab.service.on_work = step
    lab.service.delay_s = faster_b

    record = lab.run(policy="seed", time_budget=600)

    assert next(requests) > max(steps)
    assert record.status is RolloutStatus.DONE
    assert [window.arm for window in record.windows] == [Arm.A, Arm.B, Arm.A, Arm.B]
    assert record.judgement is not None
    assert record.judgement.verdict is Verdict.PASS
    assert record.application is not None
    assert record.application.applied
    assert lab.limit() == CONC_CAP
    assert all(progress.left_s is not None and 0 < progress.left_s <= 600 for progress in lab.progress)
    assert lab.services.rollouts.recover() == []
    run, _ = lab.services.telemetry.load(f"rollout.{record.rollout_id}")
    assert run.status == "success"
