"""The flags of a rollout are released before its end is reported."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path

from relab.bootstrap import Services
from relab.flags.models import ServiceFlags
from relab.rollouts.record import RolloutRecord
from support.rollouts.plans import faster_b, small_plan
from support.rollouts.small_service import small_service


def test_applied_rollout_can_be_rolled_back_while_its_reports_are_sent(
    make_services: Callable[..., Services], tmp_path: Path
) -> None:
    services = make_services()
    rolled_back: list[RolloutRecord] = []
    lock = threading.Lock()

    def roll_back_after_the_end() -> None:
        # The last request of a rollout sends its report to the target. This also runs for the rollback's requests.
        if not lock.acquire(blocking=False):
            return
        try:
            for last in services.rollouts.list_rollouts().items:
                if last.finished_at is not None and not rolled_back:
                    rolled_back.append(services.rollouts.roll_back(last.rollout_id, by="ada"))
        finally:
            lock.release()

    with small_service(delay_s=faster_b, on_request=roll_back_after_the_end) as service:
        plan = small_plan(service.url, tmp_path, policy="seed")
        record = services.rollouts.run(
            plan, by="tester", stop=threading.Event(), on_progress=lambda _: None, root=tmp_path
        )
        flags = service.flags

    assert record.application is not None
    assert record.application.applied
    assert [found.rollout_id for found in rolled_back] == [record.rollout_id]
    assert flags == ServiceFlags()
