"""The Ray executor: requests to stop survive errors of Ray, and sessions of one run do not disturb each other."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from relab.experiments.errors import TrialStopped
from relab.experiments.models import RAY_EXECUTOR, TrialOutcome
from rig.waiting import wait_until
from support.experiments.benches import Bench, Benches

pytestmark = pytest.mark.full
TIMEOUT_S = 60
WAITS = """
folder = Path(bindings["meet"])
(folder / "started").touch()
wait_for(folder / "go")
answer()
"""


def open_bench(folder: Path, address: str, harness: str) -> Bench:
    """Open an executor in a project of its own; all have the same run id."""
    return Benches(RAY_EXECUTOR, folder, address).open(
        harness, tasks=1, baseline={"variant_id": "control", "bindings": {"meet": str(folder)}}
    )


def test_stop_is_sent_again_after_an_error_of_ray(
    ray_address: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import ray.exceptions
    from ray.experimental import internal_kv

    sent: list[str] = []
    put = internal_kv._internal_kv_put

    def put_later(*args: Any, **options: Any) -> bool:
        sent.append("failed" if not sent else "sent")
        if len(sent) == 1:
            raise ray.exceptions.RpcError("the connection is closed")
        return bool(put(*args, **options))

    monkeypatch.setattr(internal_kv, "_internal_kv_put", put_later)
    bench = open_bench(tmp_path, ray_address, WAITS)
    future = bench.executor.submit(bench.trial(1))
    wait_until((tmp_path / "started").exists)

    bench.stop.press()
    bench.stop.press()

    with pytest.raises(TrialStopped):
        future.result(TIMEOUT_S)
    bench.executor.close()
    assert sent == ["failed", "sent"]


def test_session_that_ends_leaves_the_trial_of_another_session_of_its_run(ray_address: str, tmp_path: Path) -> None:
    (tmp_path / "first").mkdir()
    (tmp_path / "second").mkdir()
    first = open_bench(tmp_path / "first", ray_address, "answer()\n")
    first.executor.submit(first.trial(1)).result(TIMEOUT_S)
    second = open_bench(tmp_path / "second", ray_address, WAITS)
    future = second.executor.submit(second.trial(1))
    wait_until((tmp_path / "second" / "started").exists)

    first.executor.close()
    (tmp_path / "second" / "go").touch()

    assert future.result(TIMEOUT_S).row.outcome is TrialOutcome.SUCCESS
    second.executor.close()
